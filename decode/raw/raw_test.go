package raw

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/franz-go/pkg/kgo"

	"kafkadelta/decode"
)

func planFor(t *testing.T, cfg decode.Config, fields ...arrow.Field) *decode.Plan {
	t.Helper()
	p, err := decode.NewPlan(arrow.NewSchema(fields, nil), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func column(name string, typ arrow.DataType) arrow.Field {
	return arrow.Field{Name: name, Type: typ, Nullable: true}
}

// TestValues: bytes are kept as they are, none at all as null, and text has to be UTF-8.
func TestValues(t *testing.T) {
	text, err := New(planFor(t, decode.Config{}, column("other", arrow.PrimitiveTypes.Int32), column("value", arrow.BinaryTypes.String)), "value")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := New(planFor(t, decode.Config{}, column("value", arrow.BinaryTypes.Binary)), "value")
	if err != nil {
		t.Fatal(err)
	}
	values := [][]byte{[]byte("héllo"), {}, nil, []byte("x")}
	for _, v := range values {
		if err := errors.Join(text.Append(&kgo.Record{Value: v}), binary.Append(&kgo.Record{Value: v})); err != nil {
			t.Fatal(err)
		}
	}
	broken := &kgo.Record{Topic: "t", Partition: 1, Offset: 2, Value: []byte{0xff}}
	poison, ok := errors.AsType[*decode.PoisonError](text.Append(broken))
	if !ok || poison.Reason != decode.ReasonInvalidUTF8 || poison.Path != "value" || poison.Offset != 2 {
		t.Errorf("no UTF-8 into STRING: %v", poison)
	}
	if err := binary.Append(broken); err != nil {
		t.Errorf("no UTF-8 into BINARY: %v", err)
	}
	rows := text.NewBatch()
	defer rows.Release()
	got := rows.Column(1).(*array.String)
	if rows.NumRows() != 4 || got.Value(0) != "héllo" || got.IsNull(1) || got.Value(1) != "" || !got.IsNull(2) || got.Value(3) != "x" || rows.Column(0).NullN() != 4 {
		t.Errorf("%v", rows)
	}
	bytes := binary.NewBatch()
	defer bytes.Release()
	if b := bytes.Column(0).(*array.Binary); bytes.NumRows() != 5 || b.Value(4)[0] != 0xff || !b.IsNull(2) {
		t.Errorf("%v", bytes)
	}
}

func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		plan *decode.Plan
		want string
	}{
		{planFor(t, decode.Config{}, column("a", arrow.BinaryTypes.String)), `no column "value"`},
		{planFor(t, decode.Config{}, column("value", arrow.PrimitiveTypes.Int64)), "is BIGINT"},
		{planFor(t, decode.Config{Columns: map[string]decode.Column{"a": {From: "value"}}}, column("a", arrow.BinaryTypes.String), column("value", arrow.BinaryTypes.String)), "computed from value"},
		{planFor(t, decode.Config{Columns: map[string]decode.Column{"a": {From: "b.c"}}}, column("a", arrow.BinaryTypes.String), column("value", arrow.BinaryTypes.String)), "computed from b"},
	} {
		if _, err := New(tt.plan, "value"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}
