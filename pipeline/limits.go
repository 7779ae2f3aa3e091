package pipeline

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// LimitsConfig stops a stream that meets too many bad messages: more likely something is wrong with all of them.
type LimitsConfig struct {
	// BadMessages is how many messages of a window may be bad. Default 0: any number.
	BadMessages int64 `yaml:"bad_messages"`
	// BadShare is which share of a window's messages may be bad, from 0 to 1; it is looked at once the window has 1,000. Default 0: any.
	BadShare float64 `yaml:"bad_share"`
	// Window is the time that both are counted over; one window follows the other. Default 1m.
	Window time.Duration `yaml:"window"`
}

// shareAfter is from how many messages on a share says something.
const shareAfter = 1000

func (c LimitsConfig) validate(onError string) error {
	var errs []error
	if c.BadMessages < 0 {
		errs = append(errs, fmt.Errorf("limits.bad_messages is %d: use 0 for no limit, or a positive number", c.BadMessages))
	}
	if !(c.BadShare >= 0 && c.BadShare < 1) {
		errs = append(errs, fmt.Errorf("limits.bad_share is %v: use 0 for no limit, or a share below 1, such as 0.05", c.BadShare))
	}
	if c.Window < time.Second {
		errs = append(errs, fmt.Errorf("limits.window is %v: use at least 1s", c.Window))
	}
	if onError == OnErrorFail && (c.BadMessages > 0 || c.BadShare > 0) {
		errs = append(errs, errors.New("limits are set, but under on_error: fail the first bad message stops the stream: set on_error: dead_letter or skip, or leave them out"))
	}
	return errors.Join(errs...)
}

// quota counts bad messages over all lanes, each against messages of the same window. Clean messages are counted in bulk.
type quota struct {
	LimitsConfig
	now func() time.Time

	mu       sync.Mutex
	since    time.Time
	messages int64
	bad      int64
}

// tally is what was counted for messages that are not committed yet: it is given back where they are dropped, since they are read again.
type tally struct {
	window        time.Time // in which it was; what was counted in one that is over says nothing any more
	messages, bad int64
	held          int // of the messages, those whose rows are not written yet: the table's rules may find them bad
}

// limitError is a bad message too many. It is poison, as its cause.
type limitError struct {
	limit string
	cause error
}

func (e *limitError) Error() string { return e.limit + "; the latest: " + e.cause.Error() }
func (e *limitError) Unwrap() error { return e.cause }

// count takes note of messages, clean or not, before any of them is found bad: of all that a lane holds, and of others that it is done with. Those that it held
// when another window began count in that one as well, where it will be known what they are.
func (q *quota) count(t *tally, held, done int) {
	if q.BadShare == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn(t)
	more := int64(held - t.held + done)
	q.messages, t.messages, t.held = q.messages+more, t.messages+more, held
}

// turn begins the next window where one is over.
func (q *quota) turn(t *tally) {
	if now := q.now(); now.Sub(q.since) >= q.Window {
		q.since, q.messages, q.bad = now, 0, 0
	}
	if !t.window.Equal(q.since) {
		*t = tally{window: q.since}
	}
}

// giveBack forgets what was counted for messages that are read again.
func (q *quota) giveBack(t tally) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.window.Equal(q.since) {
		q.messages, q.bad = q.messages-t.messages, q.bad-t.bad
	}
}

// take takes note of a bad message, and returns an error where it is one too many.
func (q *quota) take(t *tally, cause error) error {
	if q.BadMessages == 0 && q.BadShare == 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn(t)
	q.bad++
	t.bad++
	switch {
	case q.BadMessages > 0 && q.bad > q.BadMessages:
		return &limitError{fmt.Sprintf("limits.bad_messages: %d bad messages within %v", q.bad, q.Window), cause}
	case q.BadShare > 0 && q.messages >= shareAfter && float64(q.bad) > q.BadShare*float64(q.messages):
		return &limitError{fmt.Sprintf("limits.bad_share: %d of %d messages within %v are bad", q.bad, q.messages, q.Window), cause}
	}
	return nil
}
