// Package bridle steers running AI agents from Go: interrupt one, send it word, let it stop cleanly,
// resume it, watch every step.
//
//	client, err := bridle.Dial("127.0.0.1:7420", bridle.Token(os.Getenv("BRIDLE_TOKEN")))
//	...
//	_, err = client.Sessions.Send(ctx, &bridlev1.SendRequest{
//		Session: bridle.Slug("fix-auth"), Content: bridle.Text("go on"),
//	})
//
// The calls are those of the generated stubs in bridle.dev/go/bridle/v1, whose comments are the
// specification. The client adds what every caller needs: the token, one request id for all tries
// of a request, tries after a lost connection (see Retry), errors by reason (see ReasonOf), and a
// Watch that outlives its connections.
package bridle
