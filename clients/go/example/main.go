// The example: start a session, watch it, send, interrupt, stop.
//
//	BRIDLE_TOKEN=… go run .
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"

	"bridle.dev/go"
	bridlev1 "bridle.dev/go/bridle/v1"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := traced(ctx, run); err != nil {
		log.Fatalf("example: %v", err)
	}
}

func run(ctx context.Context) error {
	client, err := bridle.Dial(bridle.AddressFromEnvironment(), bridle.Environment(),
		bridle.DialOptions(grpc.WithStatsHandler(otelgrpc.NewClientHandler())))
	if err != nil {
		return err
	}
	defer client.Close()

	started, err := client.Sessions.StartSession(ctx, &bridlev1.StartSessionRequest{
		Slug: fmt.Sprintf("example-go-%d", os.Getpid()), Agent: "shell", Prompt: bridle.Text("echo hello from Go"),
	})
	if err != nil {
		return err
	}
	session := bridle.ID(started.GetSession().GetSessionId())

	watch := client.Watch(&bridlev1.WatchRequest{
		Targets: []*bridlev1.WatchTarget{{Session: session}},
		Until:   bridlev1.WatchUntil_WATCH_UNTIL_RUN_END,
	})
	for event, err := range watch.Events(ctx) {
		if err != nil {
			return err
		}
		switch kind := event.GetKind().(type) {
		case *bridlev1.Event_ToolCallOutput:
			fmt.Printf("turn %d says: %s", event.GetTurn(), kind.ToolCallOutput.GetText())
		case *bridlev1.Event_ToolCallStarted:
			if event.GetTurn() == 2 { // `sleep 60` is on
				_, err = client.Sessions.Interrupt(ctx, &bridlev1.InterruptRequest{Session: session})
			}
		case *bridlev1.Event_TurnEnded:
			fmt.Printf("turn %d ended: %s\n", event.GetTurn(), kind.TurnEnded.GetStopReason())
			switch event.GetTurn() {
			case 1:
				_, err = client.Sessions.Send(ctx, &bridlev1.SendRequest{Session: session, Content: bridle.Text("sleep 60")})
			case 2:
				_, err = client.Sessions.Stop(ctx, &bridlev1.StopRequest{Session: session})
			}
		case *bridlev1.Event_SessionEnded:
			fmt.Println("the session ended:", kind.SessionEnded.GetReason())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
