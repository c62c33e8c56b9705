package bridle

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	bridlev1 "bridle.dev/go/bridle/v1"
)

// DefaultAddress is where control listens unless it was told otherwise.
const DefaultAddress = "127.0.0.1:7420"

// Client holds one connection to control. Its methods and stubs may be used by many goroutines.
type Client struct {
	Sessions   bridlev1.SessionServiceClient
	Hosts      bridlev1.HostServiceClient
	Identities bridlev1.IdentityServiceClient

	connection *grpc.ClientConn
	guard      *guard
	end        context.CancelFunc
}

// TokenSource gives the token for a call; it is asked anew for each, so that a token may be renewed
// while the client lives. The context is the call's, or the watch's, and ends with the client, too.
// Many goroutines may ask at once.
type TokenSource func(ctx context.Context) (string, error)

type options struct {
	token     TokenSource
	tls       *tls.Config
	plaintext bool
	retry     Retry
	extra     []grpc.DialOption
}

// Option is one setting of Dial.
type Option func(*options) error

// Token sends the token with every call.
func Token(token string) Option {
	return TokenFrom(func(context.Context) (string, error) { return token, nil })
}

// TokenFile reads the token from a file, anew for each call.
func TokenFile(path string) Option {
	return TokenFrom(func(context.Context) (string, error) {
		content, err := os.ReadFile(path)
		return strings.TrimSpace(string(content)), err
	})
}

// TokenFrom asks for the token, for each call.
func TokenFrom(source TokenSource) Option {
	return func(o *options) error {
		o.token = source
		return nil
	}
}

// TLS uses the configuration; without it TLS is used with the machine's own authorities, and
// plaintext to loopback.
func TLS(config *tls.Config) Option {
	return func(o *options) error {
		o.tls = config
		return nil
	}
}

// Authority is the file, PEM, with the certificate authority of control.
func Authority(path string) Option {
	return func(o *options) error {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(content) {
			return fmt.Errorf("%s: no certificate of an authority (PEM)", path)
		}
		o.tls = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		return nil
	}
}

// Plaintext talks without TLS to an address that is not loopback. Everybody between reads the token.
func Plaintext() Option {
	return func(o *options) error {
		o.plaintext = true
		return nil
	}
}

// Retrying sets how calls are tried again. What is zero of it is that of DefaultRetry.
func Retrying(retry Retry) Option {
	return func(o *options) error {
		o.retry = retry.whole()
		return nil
	}
}

// DialOptions hands options to gRPC: interceptors for traces, say.
func DialOptions(extra ...grpc.DialOption) Option {
	return func(o *options) error {
		o.extra = append(o.extra, extra...)
		return nil
	}
}

// Environment takes what BRIDLE_TOKEN, BRIDLE_TOKEN_FILE, BRIDLE_TLS_CA and BRIDLE_INSECURE say;
// inside a session (BRIDLE_SESSION is set) the token is the session's own, of the file.
// AddressFromEnvironment goes with it.
func Environment() Option {
	return func(o *options) error {
		token, path := os.Getenv("BRIDLE_TOKEN"), os.Getenv("BRIDLE_TOKEN_FILE")
		if path != "" && (token == "" || os.Getenv("BRIDLE_SESSION") != "") {
			_ = TokenFile(path)(o)
		} else if token != "" {
			_ = Token(token)(o)
		}
		switch strings.ToLower(os.Getenv("BRIDLE_INSECURE")) {
		case "1", "true", "yes", "on":
			o.plaintext = true
		}
		if path := os.Getenv("BRIDLE_TLS_CA"); path != "" {
			return Authority(path)(o)
		}
		return nil
	}
}

// AddressFromEnvironment is BRIDLE_ADDRESS, or DefaultAddress.
func AddressFromEnvironment() string {
	if address := os.Getenv("BRIDLE_ADDRESS"); address != "" {
		return address
	}
	return DefaultAddress
}

// Dial makes a client for the control at address, "host:port". It connects at the first call.
func Dial(address string, settings ...Option) (*Client, error) {
	chosen := options{retry: DefaultRetry}
	for _, set := range settings {
		if err := set(&chosen); err != nil {
			return nil, err
		}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("%q is no address, which is HOST:PORT", address)
	}
	if chosen.token == nil {
		return nil, errors.New("no token was given")
	}
	life, end := context.WithCancel(context.Background())
	guard := &guard{token: chosen.token, retry: chosen.retry, life: life}
	all := []grpc.DialOption{
		grpc.WithTransportCredentials(transport(host, chosen)),
		// Without it a peer that froze goes unnoticed for minutes; control allows it.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true,
		}),
		// A service that restarts is back within a second; gRPC's own waits grow to minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithUserAgent("bridle-go"),
		// The client's own tries know which failures are safe to repeat.
		grpc.WithDisableRetry(),
		grpc.WithChainUnaryInterceptor(guard.unary),
		grpc.WithChainStreamInterceptor(guard.stream),
	}
	if isLoopback(host) {
		// What is on this machine is never reached by way of a proxy.
		all = append(all, grpc.WithNoProxy())
	}
	connection, err := grpc.NewClient(address, append(all, chosen.extra...)...)
	if err != nil {
		end()
		return nil, err
	}
	return &Client{
		Sessions:   bridlev1.NewSessionServiceClient(connection),
		Hosts:      bridlev1.NewHostServiceClient(connection),
		Identities: bridlev1.NewIdentityServiceClient(connection),
		connection: connection,
		guard:      guard,
		end:        end,
	}, nil
}

// Connection is the connection below, for stubs of other services.
func (c *Client) Connection() *grpc.ClientConn { return c.connection }

// Close ends the connection, and all calls and watches on it, with CANCELLED.
func (c *Client) Close() error {
	c.end()
	return c.connection.Close()
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func transport(host string, chosen options) credentials.TransportCredentials {
	switch {
	case chosen.tls != nil:
		return credentials.NewTLS(chosen.tls)
	case chosen.plaintext || isLoopback(host):
		return insecure.NewCredentials()
	default:
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
}

// Slug refers to a session by its name in the token's workspace.
func Slug(slug string) *bridlev1.SessionRef {
	return &bridlev1.SessionRef{Ref: &bridlev1.SessionRef_Slug{Slug: slug}}
}

// ID refers to a session by its id, which never changes and is never used again.
func ID(id string) *bridlev1.SessionRef {
	return &bridlev1.SessionRef{Ref: &bridlev1.SessionRef_Id{Id: id}}
}

// Text is a piece of content.
func Text(text string) []*bridlev1.Content {
	return []*bridlev1.Content{{Kind: &bridlev1.Content_Text{Text: text}}}
}
