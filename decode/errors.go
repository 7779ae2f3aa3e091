package decode

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow"
)

// Reasons of a PoisonError. The words are stable: metrics, dead letters and tests use them.
const (
	ReasonTombstone    = "tombstone"     // the record has no value (nil), which deletes a key in a compacted topic
	ReasonEmpty        = "empty"         // the value has no bytes, or nothing but white space
	ReasonInvalidJSON  = "invalid_json"  // the bytes are not JSON by RFC 8259
	ReasonTrailingData = "trailing_data" // more than one value in a message
	ReasonInvalidUTF8  = "invalid_utf8"  // a string holds bytes that are not UTF-8
	ReasonTypeMismatch = "type_mismatch" // a value of another kind than the column takes
	ReasonInvalidValue = "invalid_value" // right kind, but its text is no timestamp, date, base64, decimal ...
	ReasonOutOfRange   = "out_of_range"  // right kind, but the column's type cannot hold it
	ReasonInexact      = "inexact"       // the column would lose digits: a fraction into an integer, scale into a decimal
	ReasonTooDeep      = "too_deep"      // nested deeper than the limit
	ReasonTooLarge     = "too_large"     // the message alone is larger than one batch can hold, or than what it may become when it is decompressed

	ReasonInvalidAvro        = "invalid_avro"        // the bytes are no datum of the schema
	ReasonInvalidProto       = "invalid_protobuf"    // the bytes are no message of the type
	ReasonInvalidCompression = "invalid_compression" // the value is not compressed as configured
	ReasonInvalidFraming     = "invalid_framing"     // the message does not begin with what tells its schema
	ReasonUnknownSchema      = "unknown_schema"      // nobody knows the schema that the message names
	ReasonInvalidSchema      = "invalid_schema"      // it is no schema, or one of another format
)

// PoisonError is a message that can never become a row under this plan. It left no trace in any builder.
type PoisonError struct {
	Topic     string
	Partition int32
	Offset    int64
	Schema    string // that the message was written with, or names, like "schema id 7"; empty where there is none, or only one
	Path      string // source field, like "meta.producer.timestamp"; empty for the whole message
	Reason    string // one of the Reason constants
	Detail    string // what was found and what was expected, with the value shortened
}

func (e *PoisonError) Error() string {
	at, schema := "", ""
	if e.Path != "" {
		at = " at " + e.Path
	}
	if e.Schema != "" {
		schema = " (" + e.Schema + ")"
	}
	return "decoding " + e.Topic + "/" + strconv.Itoa(int(e.Partition)) + " offset " + strconv.FormatInt(e.Offset, 10) + ": " + e.Reason + at + schema + ": " + e.Detail
}

// Poison tells the field path and the reason; a pipeline recognises poison by this method.
func (e *PoisonError) Poison() (path, reason string) { return e.Path, e.Reason }

// Found tells what was found and what was expected; a pipeline asks by this method.
func (e *PoisonError) Found() string { return e.Detail }

// WrittenBy tells by which schema the message was read; a pipeline asks by this method.
func (e *PoisonError) WrittenBy() string { return e.Schema }

// WrittenWith names the message's schema where err is a PoisonError that does not know of it.
func WrittenWith(err error, schema string) error {
	if e, ok := errors.AsType[*PoisonError](err); ok {
		e.Schema = schema
	}
	return err
}

// RetryLaterError says that nothing was appended and that the same message may succeed later: after the batch was
// taken (After is 0), or once something outside is back, such as a schema registry.
type RetryLaterError struct {
	After time.Duration // how long to wait; 0: as soon as the cause is gone
	Cause error
}

func (e *RetryLaterError) Error() string { return fmt.Sprintf("decoding later: %v", e.Cause) }

// Unwrap returns the cause.
func (e *RetryLaterError) Unwrap() error { return e.Cause }

// RetryLater tells how long to wait; a pipeline recognises the outcome by this method.
func (e *RetryLaterError) RetryLater() time.Duration { return e.After }

// EvolveError says that nothing was appended, because the message's schema has what the table lacks: it is to be decoded again by a plan for the
// table that has it (Plan.Follow).
type EvolveError struct {
	Schema string // that the message was written with
	Want   *arrow.Schema
}

func (e *EvolveError) Error() string {
	return "the table lacks columns, or has narrower types, than " + cmp.Or(e.Schema, "the messages' schema")
}

// Wanted is the schema of a table that takes all of the message; a pipeline recognises the outcome by this method.
func (e *EvolveError) Wanted() *arrow.Schema { return e.Want }

// FramingError says why a message does not tell what it was written with. It becomes a PoisonError.
type FramingError struct {
	Reason, Detail string
	Schema         string // that it names, like "schema id 7"; empty where it names none
}

func (e *FramingError) Error() string { return e.Reason + ": " + e.Detail }

// MaxShown is how much of a value an error shows, in bytes.
const MaxShown = 80

// Shorten quotes the beginning of a value for an error.
func Shorten(s []byte) string { return string(AppendShort(nil, s)) }

// AppendShort is Shorten, behind a text.
func AppendShort(text, s []byte) []byte {
	more := ""
	if len(s) > MaxShown {
		n := MaxShown
		for n > MaxShown-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s, more = s[:n], "..."
	}
	return append(strconv.AppendQuote(text, string(s)), more...)
}
