package json

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

// failed is the offset that scanning functions return when they could not go on; the decoder's problem says why.
const failed = -1

// fail notes the reason and returns failed. p is where, for the detail.
func (d *Decoder) fail(reason string, p int, format string, args ...any) int {
	d.problem.Set(reason, format+" (byte %d)", append(args, p)...)
	return failed
}

// because is fail with a text that begins with d.why.
func (d *Decoder) because(reason string, p int, why ...string) int {
	for _, w := range why {
		d.why = append(d.why, w...)
	}
	d.why = append(strconv.AppendInt(append(d.why, " (byte "...), int64(p), 10), ')')
	d.problem.SetText(reason, string(d.why))
	return failed
}

// within notes the path of the innermost field in which a problem arose, and returns failed.
func (d *Decoder) within(path string) int {
	d.problem.Within(path)
	return failed
}

// syntax fails because something else than the wanted stands at p.
func (d *Decoder) syntax(p int, want string) int {
	if p >= d.n {
		return d.fail(decode.ReasonInvalidJSON, p, "the message ends where %s should be", want)
	}
	d.quote(p, d.n)
	return d.because(decode.ReasonInvalidJSON, p, " where ", want, " should be")
}

// mismatch fails because the value at p is of a kind that the column does not take; if it is no JSON, that comes first.
func (d *Decoder) mismatch(f *field, p int, want string) int {
	end := d.skip(p, f.depth)
	if end < 0 {
		return end
	}
	d.quote(p, end)
	return d.because(decode.ReasonTypeMismatch, p, " into ", decode.TypeName(f.b.Type), ": want ", want)
}

// refuse fails because the value in [p, end) is of the right kind and cannot be stored.
func (d *Decoder) refuse(f *field, reason string, p, end int, why string) int {
	if why != "" {
		why = ": " + why
	}
	d.quote(p, end)
	return d.because(reason, p, " into ", decode.TypeName(f.b.Type), why)
}

// shorten quotes a part of the message for an error.
func (d *Decoder) shorten(p, end int) string {
	return decode.Shorten(d.buf[p:max(p, min(end, d.n))])
}

// quote has an error's text begin with a part of the message.
func (d *Decoder) quote(p, end int) {
	d.why = decode.AppendShort(d.why[:0], d.buf[p:max(p, min(end, d.n))])
}

// poison turns the problem into the message's error.
func (d *Decoder) poison(rec *kgo.Record) error {
	e := &decode.PoisonError{Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Schema: d.schema,
		Path: d.problem.Path, Reason: d.problem.Reason, Detail: d.problem.Detail}
	d.problem = decode.Problem{}
	return e
}
