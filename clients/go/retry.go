package bridle

import (
	"cmp"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"

	bridlev1 "bridle.dev/go/bridle/v1"
)

// Retry says how often, and for how long, a unary call is tried.
//
// Only what is safe is tried again: a lost connection or a deadline of one try, because a request
// that changes something carries its request id, and reads change nothing; and the reasons by which
// control says that a later try may succeed. The zero value of a field stands for DefaultRetry's.
type Retry struct {
	// Attempts is the number of tries in all; but see Patience.
	Attempts int
	// AttemptTimeout is the longest that one try may take. A verb answers within 5 s, so that a
	// longer silence is a lost connection.
	AttemptTimeout time.Duration
	// First and Most are the waits between tries: each twice the last, half of it by chance.
	First, Most time.Duration
	// Patience is how long a call waits, whatever its tries, for a control that has answered before
	// and is lost, beside the wait that its request asks for; a watch that begins waits as long.
	// The deadline of the context goes first. Negative: not at all.
	Patience time.Duration
}

// DefaultRetry is what Dial uses.
var DefaultRetry = Retry{
	Attempts: 5, AttemptTimeout: 10 * time.Second, First: 100 * time.Millisecond, Most: 5 * time.Second,
	Patience: 30 * time.Second,
}

func (r Retry) whole() Retry {
	return Retry{
		Attempts:       cmp.Or(r.Attempts, DefaultRetry.Attempts),
		AttemptTimeout: cmp.Or(r.AttemptTimeout, DefaultRetry.AttemptTimeout),
		First:          cmp.Or(r.First, DefaultRetry.First),
		Most:           cmp.Or(r.Most, DefaultRetry.Most),
		Patience:       cmp.Or(r.Patience, DefaultRetry.Patience),
	}
}

// Not HOST_UNREACHABLE: there the interrupt was withdrawn, and the same request id would only be
// told the same again.
func mayRetry(err error) bool {
	if found, ok := AsError(err); ok {
		switch found.Reason {
		case bridlev1.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
			bridlev1.ErrorReason_ERROR_REASON_RATE_LIMITED,
			bridlev1.ErrorReason_ERROR_REASON_NO_HOST:
			return true
		}
		return false
	}
	at := code(err)
	return at == codes.Unavailable || at == codes.DeadlineExceeded
}

// isLost says whether an error is of the connection, and control's own word none.
func isLost(err error) bool {
	_, told := AsError(err)
	return !told && mayRetry(err)
}

// isBroken says whether a stream that ended so may be opened again from its cursor.
func isBroken(err error) bool {
	if found, ok := AsError(err); ok {
		switch found.Reason {
		case bridlev1.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
			bridlev1.ErrorReason_ERROR_REASON_RATE_LIMITED:
			return true
		}
		return false
	}
	switch code(err) {
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.Internal, codes.Unavailable:
		return true
	}
	return false
}

// delay before the try that follows failure number attempt, from 1.
func (r Retry) delay(attempt int, err error) time.Duration {
	whole := r.First << min(attempt-1, 16)
	if whole > r.Most || whole <= 0 {
		whole = r.Most
	}
	wait := whole/2 + time.Duration(rand.Float64()*float64(whole)/2)
	if found, ok := AsError(err); ok {
		// Jitter on top of the server's wish too: it tells every client the same.
		wished := time.Duration(float64(found.RetryAfter) * (1 + rand.Float64()/10))
		wait = max(wait, wished)
	}
	return wait
}
