package bridle

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// guard stands before every call: it adds the token and the request id, and tries again.
type guard struct {
	token TokenSource
	retry Retry
	life  context.Context // of the client
	// known says that control has answered here, so that a lost connection is no wrong address.
	known atomic.Bool
}

// ask is for a token that can be sent.
func (g *guard) ask(ctx context.Context) (string, error) {
	asking, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(g.life, stop)()
	token, err := g.token(asking)
	switch {
	case err == nil && isToken(token):
		return token, nil
	case ctx.Err() != nil:
		return "", status.FromContextError(ctx.Err()).Err()
	case g.life.Err() != nil:
		return "", errClosed
	case err != nil:
		return "", status.Error(codes.Unauthenticated, "the token can't be read: "+err.Error())
	default:
		return "", status.Error(codes.Unauthenticated, "the token is empty, or holds characters that no token has")
	}
}

func (g *guard) withToken(ctx context.Context) (context.Context, string, error) {
	token, err := g.ask(ctx)
	if err != nil {
		return nil, "", err
	}
	sent, ok := metadata.FromOutgoingContext(ctx) // A copy.
	if !ok {
		sent = metadata.MD{}
	}
	// Not beside another, such as that of a call which the caller serves and hands on.
	sent.Set("authorization", "Bearer "+token)
	return metadata.NewOutgoingContext(ctx, sent), token, nil
}

func (g *guard) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
	streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, _, err := g.withToken(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return notedStream{stream, g}, nil
}

type notedStream struct {
	grpc.ClientStream
	guard *guard
}

func (s notedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	s.guard.note(err)
	return err
}

// note remembers whether what came of a call, or of a stream, is an answer of control's.
func (g *guard) note(err error) {
	if _, told := AsError(err); told || err == nil || err == io.EOF {
		g.known.Store(true)
	}
}

func (g *guard) unary(
	ctx context.Context, method string, request, reply any, cc *grpc.ClientConn,
	invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	request = withRequestID(request)
	asked := waitOf(request) // Control was asked to wait so long, and then to answer.
	patience := time.Now().Add(g.retry.Patience + asked)
	limit := g.retry.AttemptTimeout + asked
	for attempt := 1; ; attempt++ {
		token, err := g.try(ctx, limit, method, request, reply, cc, invoker, opts)
		if err == nil || ctx.Err() != nil {
			return err
		}
		var wait time.Duration
		if attempt >= g.retry.Attempts || !g.renewed(ctx, err, token) {
			wait = g.retry.delay(attempt, err)
			left := time.Until(patience) - wait
			patient := isLost(err) && g.known.Load() && left > 0 && g.retry.Patience > 0
			if !mayRetry(err) || (attempt >= g.retry.Attempts && !patient) {
				return err
			}
			if patient {
				// While gRPC pauses between its connects every try would fail at once.
				limit = min(g.retry.AttemptTimeout, left) + asked
				opts = append(opts[:len(opts):len(opts)], grpc.WaitForReady(true))
			}
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return err
		}
		if err := g.pause(ctx, wait); err != nil {
			return err
		}
	}
}

func (g *guard) try(
	ctx context.Context, limit time.Duration, method string, request, reply any,
	cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption,
) (string, error) {
	ctx, token, err := g.withToken(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = invoker(ctx, method, request, reply, cc, opts...)
	g.note(err)
	return token, err
}

// waitsFor says whether what began then may still wait for a control that was there and is lost.
func (g *guard) waitsFor(err error, begun time.Time) bool {
	return isLost(err) && g.known.Load() && time.Since(begun) < g.retry.Patience
}

func waitOf(request any) time.Duration {
	if asks, ok := request.(interface{ GetWait() *durationpb.Duration }); ok {
		// Of one that makes no sense control tells.
		return min(max(0, asks.GetWait().AsDuration()), 1000*time.Hour)
	}
	return 0
}

// renewed says whether the token was made fresh while the call was under way.
func (g *guard) renewed(ctx context.Context, err error, token string) bool {
	if code(err) != codes.Unauthenticated {
		return false
	}
	now, err := g.ask(ctx)
	return err == nil && now != token
}

// withRequestID gives a request that changes something an id, one for all tries. The caller's own
// message is left as it is, so that it may be used for another request.
func withRequestID(request any) any {
	message, ok := request.(proto.Message)
	if !ok {
		return request
	}
	field := message.ProtoReflect().Descriptor().Fields().ByName("request_id")
	// In a oneof (of GetCommand) it is what is asked for, and none of the request's own.
	if field == nil || field.ContainingOneof() != nil || message.ProtoReflect().Has(field) {
		return request
	}
	id, err := uuid.NewV7()
	if err != nil {
		return request
	}
	whole := message.ProtoReflect().New().Interface() // (A clone of a nil request would be nil.)
	proto.Merge(whole, message)
	whole.ProtoReflect().Set(field, protoreflect.ValueOfString(id.String()))
	return whole
}

// isToken says whether it can be sent: visible ASCII and no more.
func isToken(token string) bool {
	for _, char := range []byte(token) {
		if char <= ' ' || char > '~' {
			return false
		}
	}
	return token != ""
}

// errClosed is what gRPC says, too, of calls after Close.
var errClosed = status.Error(codes.Canceled, "the client is closed")

// pause waits, unless the context ends first, or the client is closed.
func (g *guard) pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-g.life.Done():
		return errClosed
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
