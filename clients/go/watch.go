package bridle

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	bridlev1 "bridle.dev/go/bridle/v1"
)

// Control says something every 15 s: after this long without a word the connection counts as lost.
const silence = 30 * time.Second

// So long control gets to end the stream of a watch that has told everything: it does at once, but on
// a busy machine anybody may pause for some.
const closing = 10 * time.Second

// Gaps in a row, each seen after a new connection, that show a broken log and not a bad moment.
const gapsCap = 5

// Failures in a row before the first answer, after which a watch gives up; but see Retry.Patience.
const firstTries = 5

// Update is one thing that a watch tells. Exactly one of the fields behind SessionID is set.
type Update struct {
	// SessionID is empty where it is about the connection.
	SessionID string
	Event     *bridlev1.Event
	LiveText  *bridlev1.LiveText
	Progress  *bridlev1.Progress
	Compacted *bridlev1.Compacted
	// Connected: the stream is open, for the first time or again.
	Connected bool
	// Disconnected: the connection was lost for this reason, and the watch goes on trying.
	Disconnected error
}

// Watch is a stream of events that outlives its connections: each event comes once and in order.
// What it can't promise ends it with an error: CURSOR_COMPACTED, CURSOR_FOREIGN,
// SESSION_NOT_FOUND and so on. Use it once, from one goroutine.
type Watch struct {
	client  *Client
	request *bridlev1.WatchRequest
	targets []*target
	fresh   bool // nothing of the current stream was seen yet
	gaps    int
	renewed int // times in a row that it was refused, and found another token
}

// target is one session of a watch and how far it was told.
type target struct {
	ref       *bridlev1.SessionRef
	logID     string
	cursor    uint64
	known     bool // false while only a tail was asked for
	tail      uint32
	fromFloor bool // it begins at the floor, wherever that is, and nothing of it was told yet
	ended     bool
}

// Watch begins with the first update that is asked for. The request is the contract's; targets
// begin where their cursors say.
func (c *Client) Watch(request *bridlev1.WatchRequest) *Watch {
	watch := &Watch{client: c, request: proto.Clone(request).(*bridlev1.WatchRequest)}
	for _, from := range watch.request.GetTargets() {
		made := &target{ref: from.GetSession(), logID: from.GetLogId(), known: true}
		switch start := from.GetStart().(type) {
		case *bridlev1.WatchTarget_Tail:
			made.tail, made.known = start.Tail, false
		case *bridlev1.WatchTarget_AfterSequence:
			made.cursor = start.AfterSequence
		}
		made.fromFloor = made.known && made.cursor == 0
		watch.targets = append(watch.targets, made)
	}
	return watch
}

// WatchSession watches one session from the floor of its log.
func (c *Client) WatchSession(session *bridlev1.SessionRef) *Watch {
	return c.Watch(&bridlev1.WatchRequest{Targets: []*bridlev1.WatchTarget{{Session: session}}})
}

// Cursors are the targets as they would have to be asked for to go on behind what was told.
func (w *Watch) Cursors() []*bridlev1.WatchTarget {
	cursors := make([]*bridlev1.WatchTarget, 0, len(w.targets))
	for _, each := range w.targets {
		cursors = append(cursors, each.request())
	}
	return cursors
}

// Events are the events alone. The loop's end, or the context's, ends the watch; a failure comes
// once, as the last.
func (w *Watch) Events(ctx context.Context) iter.Seq2[*bridlev1.Event, error] {
	return func(yield func(*bridlev1.Event, error) bool) {
		for update, err := range w.Updates(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if update.Event != nil && !yield(update.Event, nil) {
				return
			}
		}
	}
}

// Updates are everything that the watch tells.
func (w *Watch) Updates(ctx context.Context) iter.Seq2[Update, error] {
	return func(yield func(Update, error) bool) {
		if err := w.run(ctx, func(update Update) bool { return yield(update, nil) }); err != nil {
			yield(Update{}, err)
		}
	}
}

// errStopped: whoever reads has enough.
var errStopped = fmt.Errorf("enough was read")

func (w *Watch) run(ctx context.Context, tell func(Update) bool) error {
	connected, begun := false, time.Now()
	for attempt := 0; ; {
		token, _ := w.client.guard.ask(ctx)
		err := w.stream(ctx, func(update Update) bool {
			if w.fresh {
				w.fresh, connected, attempt, w.renewed = false, true, 0, 0
				if !tell(Update{Connected: true}) {
					return false
				}
			}
			return tell(update)
		})
		if err == nil || err == errStopped {
			return nil
		}
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
		if w.client.connection.GetState() == connectivity.Shutdown {
			return errClosed
		}
		attempt++
		hopes := connected || attempt < firstTries || w.client.guard.waitsFor(err, begun)
		if !w.goesOn(ctx, err, token) || !hopes {
			return err
		}
		if connected && !tell(Update{Disconnected: err}) {
			return nil
		}
		if err := w.client.guard.pause(ctx, w.client.guard.retry.delay(attempt, err)); err != nil {
			return err
		}
	}
}

func (w *Watch) goesOn(ctx context.Context, err error, token string) bool {
	if code(err) == codes.DataLoss && ReasonOf(err) == 0 {
		w.gaps++
		return w.gaps < gapsCap
	}
	if w.client.guard.renewed(ctx, err, token) {
		w.renewed++
		return w.renewed < firstTries
	}
	return isBroken(err)
}

// pin fixes which sessions are meant, so that a slug that is deleted and taken again in between
// does not mix two logs. One alone is told by the first answer.
func (w *Watch) pin(ctx context.Context) error {
	if len(w.targets) < 2 {
		return nil
	}
	for _, each := range w.targets {
		if each.ref.GetId() != "" {
			continue
		}
		got, err := w.client.Sessions.GetSession(ctx, &bridlev1.GetSessionRequest{Session: each.ref})
		if err != nil {
			return err
		}
		each.pin(got.GetSession().GetSessionId())
	}
	return nil
}

// stream is one connection, until all targets have ended.
func (w *Watch) stream(ctx context.Context, tell func(Update) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.fresh = true
	if err := w.pin(ctx); err != nil {
		return err
	}
	request := &bridlev1.WatchRequest{
		Until: w.request.GetUntil(), Kinds: w.request.GetKinds(), LiveText: w.request.GetLiveText(),
	}
	for _, each := range w.targets {
		if !each.ended {
			request.Targets = append(request.Targets, each.request())
		}
	}
	var silent atomic.Bool
	clock := time.AfterFunc(silence, func() { silent.Store(true); cancel() })
	defer clock.Stop()
	answers, err := w.client.Sessions.Watch(ctx, request)
	if err != nil {
		return err
	}
	for !w.ended() {
		answer, err := answers.Recv()
		switch {
		case err != nil && silent.Load():
			return status.Errorf(codes.Unavailable, "nothing from control for %s", silence)
		case err == io.EOF:
			return status.Error(codes.Unavailable, "control broke off")
		case err != nil:
			return err
		}
		clock.Stop() // Time that the reader takes is not control's silence.
		if err := w.take(answer, tell); err != nil {
			return err
		}
		clock.Reset(silence)
	}
	// Control ends the stream now. A stream that is broken off instead counts as failed: in traces, say.
	clock.Reset(closing)
	_, _ = answers.Recv()
	return nil
}

// ended: none of no targets, which control refuses.
func (w *Watch) ended() bool {
	for _, each := range w.targets {
		if !each.ended {
			return false
		}
	}
	return len(w.targets) > 0
}

// take tells what an answer holds that was not told before.
func (w *Watch) take(answer *bridlev1.WatchResponse, tell func(Update) bool) error {
	switch answer := answer.GetResponse().(type) {
	case *bridlev1.WatchResponse_Events:
		return w.takeEvents(answer.Events, tell)
	case *bridlev1.WatchResponse_Progress:
		progress := answer.Progress
		from := w.target(progress.GetSessionId(), progress.GetLogId())
		if !from.known || len(w.request.GetKinds()) > 0 {
			from.advance(progress.GetSequence()) // Where a tail begins, or what `kinds` left out.
		} else if progress.GetSequence() > from.cursor {
			return gap(from)
		}
		from.ended = from.ended || progress.GetEnded()
		return told(tell(Update{SessionID: from.ref.GetId(), Progress: progress}))
	case *bridlev1.WatchResponse_Compacted:
		from := w.target(answer.Compacted.GetSessionId(), answer.Compacted.GetLogId())
		if floor := answer.Compacted.GetFloorSequence(); floor > 0 {
			from.cursor, from.known = max(from.cursor, floor-1), true
		}
		return told(tell(Update{SessionID: from.ref.GetId(), Compacted: answer.Compacted}))
	case *bridlev1.WatchResponse_LiveText:
		return told(tell(Update{SessionID: answer.LiveText.GetSessionId(), LiveText: answer.LiveText}))
	}
	return nil // A kind of answer of a later release.
}

func (w *Watch) takeEvents(batch *bridlev1.EventBatch, tell func(Update) bool) error {
	from := w.target(batch.GetSessionId(), batch.GetLogId())
	for _, event := range batch.GetEvents() {
		if from.known {
			if event.GetSequence() <= from.cursor {
				continue // Told already, over an earlier connection.
			}
			if event.GetSequence() != from.cursor+1 && len(w.request.GetKinds()) == 0 {
				return gap(from)
			}
		}
		from.advance(event.GetSequence())
		w.gaps = 0
		if !tell(Update{SessionID: from.ref.GetId(), Event: event}) {
			return errStopped
		}
	}
	return nil
}

func (w *Watch) target(sessionID, logID string) *target {
	for _, each := range w.targets {
		if each.ref.GetId() == sessionID {
			if each.logID == "" {
				each.logID = logID
			}
			return each
		}
	}
	only := w.targets[0] // Several were pinned before.
	only.pin(sessionID)
	only.logID = logID
	return only
}

func (t *target) pin(sessionID string) {
	t.ref = &bridlev1.SessionRef{
		Workspace: t.ref.GetWorkspace(), Ref: &bridlev1.SessionRef_Id{Id: sessionID},
	}
}

func (t *target) advance(sequence uint64) {
	t.cursor, t.known = max(t.cursor, sequence), true
	t.fromFloor = t.fromFloor && sequence == 0
}

func (t *target) request() *bridlev1.WatchTarget {
	made := &bridlev1.WatchTarget{Session: t.ref, LogId: t.logID}
	switch {
	case !t.known:
		made.Start = &bridlev1.WatchTarget_Tail{Tail: t.tail}
	case t.fromFloor:
		// Not from behind the floor that it was told of: that may have risen since.
		made.Start = &bridlev1.WatchTarget_AfterSequence{AfterSequence: 0}
	default:
		made.Start = &bridlev1.WatchTarget_AfterSequence{AfterSequence: t.cursor}
	}
	return made
}

// gap: something between two events did not come, and the stream can't be trusted any further.
func gap(from *target) error {
	return status.Errorf(codes.DataLoss, "a gap after event %d", from.cursor)
}

func told(goOn bool) error {
	if goOn {
		return nil
	}
	return errStopped
}
