package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
)

// Outcome is how a request ended.
type Outcome int

// The outcomes. Only the last but one may be tried again, together with Throttled and Broken.
const (
	Done      Outcome = iota // carried out
	NotFound                 // the object, or its container, is not there
	Exists                   // a precondition failed: the name is taken
	Denied                   // by missing or wrong credentials or permissions
	Invalid                  // refused for another reason, which stays
	Throttled                // too much is asked, for now
	Broken                   // the server failed: it may have been carried out
	NoAnswer                 // none came: it may have been carried out, or still be
	Cancelled                // the caller gave up: it may have been carried out
)

// String returns the outcome as metrics show it.
func (o Outcome) String() string {
	return [...]string{"ok", "not_found", "exists", "denied", "invalid", "throttled", "server_error", "no_answer", "cancelled"}[o]
}

// Temporary tells what another try may mend.
func (o Outcome) Temporary() bool { return o == Throttled || o == Broken || o == NoAnswer }

// OutcomeOf reads a status code (RFC 9110, section 15). A service that means another thing by it says so in Explain.
func OutcomeOf(status int) Outcome {
	switch {
	case status < 400:
		return Done
	case status == http.StatusNotFound:
		return NotFound
	case status == http.StatusConflict, status == http.StatusPreconditionFailed:
		return Exists
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return Denied
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return Throttled
	case status == http.StatusRequestTimeout, status >= 500 && status != http.StatusNotImplemented:
		return Broken
	default:
		return Invalid
	}
}

// Failure is what an error of an SDK means.
type Failure struct {
	Outcome Outcome
	Code    string // the service's own name of the error, "" if it has none
	Hint    string // what to do, "" if nothing is known
	Once    bool   // the same can't be tried again, whatever the outcome: what it is a part of has to begin anew
}

// Error is a failed operation on an object. It wraps its cause, and fs.ErrNotExist, fs.ErrExist, fs.ErrPermission or
// fs.ErrInvalid where the outcome says so for certain.
type Error struct {
	Operation
	Failure
	Cause error

	doubtful bool // an earlier try may have been carried out
}

// Error names the operation, the object, the cause and the hint.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %v", e.Name, e.Object, e.Cause)
	if e.doubtful {
		text += " (an earlier try had no answer, it may have been carried out)"
	}
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// cancelled turns the error into that of a caller who gave up.
func (e *Error) cancelled(ctx context.Context) *Error {
	e.Failure = Failure{Outcome: Cancelled}
	if !errors.Is(e.Cause, ctx.Err()) {
		e.Cause = fmt.Errorf("%w (%w)", ctx.Err(), e.Cause)
	}
	return e
}

// Unwrap returns the cause and what storage.Store promises for the outcome.
func (e *Error) Unwrap() []error {
	errs := []error{e.Cause}
	if e.doubtful && e.Outcome != Exists {
		return errs // Unknown: whatever the last try says, one before it may have landed
	}
	switch e.Outcome {
	case NotFound:
		errs = append(errs, fs.ErrNotExist)
	case Exists:
		errs = append(errs, fs.ErrExist)
	case Denied:
		errs = append(errs, fs.ErrPermission)
	case Invalid:
		errs = append(errs, fs.ErrInvalid)
	case Done, Throttled, Broken, NoAnswer, Cancelled:
	}
	return errs
}
