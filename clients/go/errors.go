package bridle

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bridlev1 "bridle.dev/go/bridle/v1"
)

// The domain of every ErrorInfo of Bridle.
const domain = "bridle.v1"

// prefix of the reasons' names in the enum, which the wire leaves out.
const prefix = "ERROR_REASON_"

// Error is what control said about a call that failed.
type Error struct {
	Code codes.Code
	// Reason is UNSPECIFIED for one that this release doesn't know; Name has it then.
	Reason bridlev1.ErrorReason
	// Name of the reason without its prefix: "SESSION_NOT_FOUND".
	Name    string
	Message string
	// Metadata is what the reason's comment in error_reason.proto names.
	Metadata map[string]string
	// Fields says what is wrong with the request: path ("session.slug"), a line for people.
	Fields []*errdetails.BadRequest_FieldViolation
	// RetryAfter is the wait before the next try that control asks for; 0 where it doesn't.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return e.Code.String() + ": " + e.Message }

// AsError reads what control said, also from an error that wraps the call's; false where the failure
// is not one of Bridle's own: a broken connection, a deadline. Branch on the reason, never on the text.
func AsError(err error) (*Error, bool) {
	var own *Error
	if errors.As(err, &own) {
		return own, true
	}
	// (status.FromError would put the words of the wrapping into the message.)
	var failed interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &failed) {
		return nil, false
	}
	said := failed.GRPCStatus()
	found := &Error{Code: said.Code(), Message: said.Message()}
	ours := false
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			ours = detail.GetDomain() == domain
			found.Name, found.Metadata = detail.GetReason(), detail.GetMetadata()
			found.Reason = bridlev1.ErrorReason(bridlev1.ErrorReason_value[prefix+found.Name])
		case *errdetails.BadRequest:
			found.Fields = detail.GetFieldViolations()
		case *errdetails.RetryInfo:
			found.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return found, ours
}

// ReasonOf is the reason of a failure; UNSPECIFIED where it is not one of Bridle's own.
func ReasonOf(err error) bridlev1.ErrorReason {
	if found, ok := AsError(err); ok {
		return found.Reason
	}
	return bridlev1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

// code of any failure, also of a context that ended.
func code(err error) codes.Code {
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return status.Code(err)
}
