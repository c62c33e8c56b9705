// The runner of the interoperability suite: does with the Go client what it is told.
//
// It reads one JSON object a line and answers with such lines, until its input ends; see
// tests/clients/README.md for the words. It holds no expectation: those stand in the suite, once
// for all languages.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"bridle.dev/go"
	bridlev1 "bridle.dev/go/bridle/v1"
)

// order is one line of the suite.
type order struct {
	ID     string `json:"id"`
	Op     string `json:"op"`
	Client string `json:"client"`

	Address   string `json:"address"`
	Token     string `json:"token"`
	TokenFile string `json:"token_file"`
	Authority string `json:"authority"`
	FromEnv   bool   `json:"environment"`

	Service      string            `json:"service"`
	Method       string            `json:"method"`
	Request      json.RawMessage   `json:"request"`
	RequestBytes string            `json:"request_bytes"`
	AnswerBytes  bool              `json:"answer_bytes"`
	Metadata     map[string]string `json:"metadata"`
	Timeout      float64           `json:"timeout"`

	Target string `json:"target"`
}

// answer is one line of the runner.
type answer map[string]any

type runner struct {
	out     sync.Mutex
	lines   *json.Encoder
	state   sync.Mutex
	clients map[string]*bridle.Client
	running map[string]context.CancelFunc
}

func main() {
	run := &runner{
		lines:   json.NewEncoder(os.Stdout),
		clients: map[string]*bridle.Client{}, running: map[string]context.CancelFunc{},
	}
	in := bufio.NewReader(os.Stdin)
	var all sync.WaitGroup
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		var next order
		if err := json.Unmarshal(line, &next); err != nil {
			fmt.Fprintln(os.Stderr, "no order:", err)
			os.Exit(2)
		}
		if next.Op == "call" || next.Op == "stream" || next.Op == "watch" {
			ctx := run.begin(next)
			all.Add(1)
			go func() {
				defer all.Done()
				defer run.end(next.ID)
				run.work(ctx, next)
			}()
			continue
		}
		run.now(next)
	}
	run.state.Lock()
	for _, cancel := range run.running {
		cancel()
	}
	run.state.Unlock()
	all.Wait()
	for _, client := range run.clients {
		_ = client.Close()
	}
}

func (r *runner) say(id string, what answer) {
	r.out.Lock()
	defer r.out.Unlock()
	what["id"] = id
	if err := r.lines.Encode(what); err != nil {
		os.Exit(1)
	}
}

func (r *runner) begin(next order) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	if next.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(next.Timeout*float64(time.Second)))
	}
	for key, value := range next.Metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	r.state.Lock()
	defer r.state.Unlock()
	r.running[next.ID] = cancel
	return ctx
}

func (r *runner) end(id string) {
	r.state.Lock()
	defer r.state.Unlock()
	r.running[id]()
	delete(r.running, id)
}

// now does what needs no waiting.
func (r *runner) now(next order) {
	r.state.Lock()
	defer r.state.Unlock()
	switch next.Op {
	case "dial":
		settings := []bridle.Option{bridle.Token(next.Token)}
		if next.TokenFile != "" {
			settings = []bridle.Option{bridle.TokenFile(next.TokenFile)}
		}
		if next.Authority != "" {
			settings = append(settings, bridle.Authority(next.Authority))
		}
		if next.FromEnv {
			next.Address = bridle.AddressFromEnvironment()
			settings = []bridle.Option{bridle.Environment()}
		}
		client, err := bridle.Dial(next.Address, settings...)
		if err != nil {
			r.say(next.ID, answer{"refused": err.Error()})
			return
		}
		r.clients[next.Client] = client
	case "close":
		_ = r.clients[next.Client].Close()
	case "cancel":
		if cancel := r.running[next.Target]; cancel != nil {
			cancel()
		}
	default:
		r.say(next.ID, answer{"refused": "no such operation"})
		return
	}
	r.say(next.ID, answer{"done": true})
}

func (r *runner) work(ctx context.Context, next order) {
	r.state.Lock()
	client := r.clients[next.Client]
	r.state.Unlock()
	var err error
	switch next.Op {
	case "watch":
		err = r.watch(ctx, client, next)
	default:
		err = r.call(ctx, client, next)
	}
	if err != nil {
		r.say(next.ID, answer{"error": failure(err)})
	}
}

func (r *runner) watch(ctx context.Context, client *bridle.Client, next order) error {
	var request bridlev1.WatchRequest
	if err := protojson.Unmarshal(next.Request, &request); err != nil {
		return err
	}
	watch := client.Watch(&request)
	for update, err := range watch.Updates(ctx) {
		switch {
		case err != nil:
			return err
		case update.Event != nil:
			r.say(next.ID, answer{
				"event": shown(update.Event), "session": update.SessionID,
				"cursor": watch.Cursors()[0].GetAfterSequence(),
			})
		case update.Progress != nil:
			r.say(next.ID, answer{"progress": shown(update.Progress)})
		case update.Compacted != nil:
			r.say(next.ID, answer{"compacted": shown(update.Compacted)})
		case update.LiveText != nil:
			r.say(next.ID, answer{"live_text": shown(update.LiveText)})
		case update.Connected:
			r.say(next.ID, answer{"connected": true})
		case update.Disconnected != nil:
			r.say(next.ID, answer{"disconnected": failure(update.Disconnected)})
		}
	}
	r.say(next.ID, answer{"end": true})
	return nil
}

func (r *runner) call(ctx context.Context, client *bridle.Client, next order) error {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(next.Service))
	if err != nil {
		return err
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(next.Method))
	request, err := message(method.Input())
	if err != nil {
		return err
	}
	if next.RequestBytes != "" {
		raw, err := base64.StdEncoding.DecodeString(next.RequestBytes)
		if err != nil {
			return err
		}
		err = proto.Unmarshal(raw, request)
		if err != nil {
			return err
		}
	} else if err := protojson.Unmarshal(next.Request, request); err != nil {
		return err
	}
	path := "/" + next.Service + "/" + next.Method
	if !method.IsStreamingServer() {
		response, err := message(method.Output())
		if err != nil {
			return err
		}
		if err := client.Connection().Invoke(ctx, path, request, response); err != nil {
			return err
		}
		r.say(next.ID, answer{"response": next.shown(response)})
		return nil
	}
	stream, err := client.Connection().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, path)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		response, err := message(method.Output())
		if err != nil {
			return err
		}
		if err := stream.RecvMsg(response); err == io.EOF {
			r.say(next.ID, answer{"end": true})
			return nil
		} else if err != nil {
			return err
		}
		r.say(next.ID, answer{"message": next.shown(response)})
	}
}

func message(of protoreflect.MessageDescriptor) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

func (o order) shown(message proto.Message) any {
	if o.AnswerBytes {
		raw, _ := proto.Marshal(message)
		return base64.StdEncoding.EncodeToString(raw)
	}
	return shown(message)
}

func shown(message proto.Message) json.RawMessage {
	text, err := protojson.Marshal(message)
	if err != nil {
		text, _ = json.Marshal("unreadable: " + err.Error())
	}
	return text
}

// names of the codes as the contract writes them.
var names = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func failure(err error) answer {
	if found, ok := bridle.AsError(err); ok {
		fields := []string{}
		for _, field := range found.Fields {
			fields = append(fields, field.GetField())
		}
		return answer{
			"code": names[found.Code], "reason": found.Name, "message": found.Message,
			"metadata": found.Metadata, "fields": fields, "retry_after": found.RetryAfter.Seconds(),
		}
	}
	said := status.Convert(err)
	if ended := status.FromContextError(err); said.Code() == 2 && ended.Code() != 2 {
		said = ended
	}
	return answer{"code": names[said.Code()], "reason": "", "message": said.Message()}
}
