package bridle_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bridle.dev/go"
	bridlev1 "bridle.dev/go/bridle/v1"
)

// What only Go has. All that the clients share stands in tests/clients, which runs this, too, with a
// control that the environment names.

func dial(t *testing.T, more ...bridle.Option) *bridle.Client {
	t.Helper()
	if os.Getenv("BRIDLE_TOKEN") == "" {
		t.Skip("no control: set BRIDLE_TOKEN, and BRIDLE_ADDRESS")
	}
	client, err := bridle.Dial(bridle.AddressFromEnvironment(), append(more, bridle.Environment())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestAnErrorThatWrapsACallsStillTellsWhatControlSaid(t *testing.T) {
	said, err := status.New(codes.NotFound, "no such session").WithDetails(
		&errdetails.ErrorInfo{Domain: "bridle.v1", Reason: "SESSION_NOT_FOUND"})
	if err != nil {
		t.Fatal(err)
	}
	found, ok := bridle.AsError(fmt.Errorf("asking for it: %w", said.Err()))
	if !ok || found.Reason != bridlev1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND {
		t.Fatalf("%v %+v", ok, found)
	}
	if found.Code != codes.NotFound || found.Message != "no such session" {
		t.Errorf("%s %q", found.Code, found.Message)
	}
	for _, other := range []error{nil, context.Canceled, status.Error(codes.NotFound, "no")} {
		if _, ok := bridle.AsError(other); ok {
			t.Errorf("%v is none of Bridle's", other)
		}
	}
}

func TestWhatWaitsForItsTokenEndsWithItsContextAndWithTheClient(t *testing.T) {
	asked := make(chan struct{}, 100)
	client, err := bridle.Dial("127.0.0.1:1", bridle.TokenFrom(func(ctx context.Context) (string, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return "", ctx.Err()
	}))
	if err != nil {
		t.Fatal(err)
	}
	call := func(ctx context.Context) error {
		_, err := client.Identities.WhoAmI(ctx, &bridlev1.WhoAmIRequest{})
		return err
	}
	watch := func(ctx context.Context) (failed error) {
		for _, err := range client.WatchSession(bridle.Slug("x")).Events(ctx) {
			failed = err
		}
		return failed
	}
	for _, wait := range []func(context.Context) error{call, watch} {
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := wait(short); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	}
	for len(asked) > 0 {
		<-asked
	}
	ends := make(chan error)
	for _, wait := range []func(context.Context) error{call, watch} {
		go func() { ends <- wait(t.Context()) }()
		<-asked
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-ends; status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	}
}

func TestARequestThatIsNilIsAnEmptyOne(t *testing.T) {
	client := dial(t)
	made, err := client.Hosts.CreateJoinToken(t.Context(), nil)
	if err != nil || made.GetJoinToken() == "" {
		t.Error(made, err)
	}
}

func TestWhatIsNotSaidOfTriesIsAsByDefault(t *testing.T) {
	client := dial(t, bridle.Retrying(bridle.Retry{Attempts: 1}))
	if _, err := client.Identities.WhoAmI(t.Context(), &bridlev1.WhoAmIRequest{}); err != nil {
		t.Error(err)
	}
}

func TestALoopThatIsLeftEndsItsWatchAndLeavesNoGoroutine(t *testing.T) {
	client := dial(t)
	slug := fmt.Sprintf("left-go-%d", os.Getpid())
	_, err := client.Sessions.StartSession(t.Context(), &bridlev1.StartSessionRequest{Slug: slug, Agent: "scripted"})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	watch := client.WatchSession(bridle.Slug(slug))
	var last *bridlev1.Event
	for event, err := range watch.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		last = event
		break
	}
	cursor := watch.Cursors()[0]
	if cursor.GetAfterSequence() != last.GetSequence() || cursor.GetLogId() == "" {
		t.Errorf("left at %d, with the cursor %v", last.GetSequence(), cursor)
	}
	for until := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatalf("%d goroutines, and %d before", runtime.NumGoroutine(), before)
		}
	}
}
