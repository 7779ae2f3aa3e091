package delta

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"kafkadelta/delta/expr"
)

// Keys of rules in a column's metadata and in a table's properties (PROTOCOL.md, "Column Invariants", "Generated Columns",
// "Default Columns", "CHECK Constraints").
const (
	invariantsKey    = "delta.invariants"
	generationKey    = "delta.generationExpression"
	defaultKey       = "CURRENT_DEFAULT"
	constraintPrefix = "delta.constraints."
)

// Rules are what a table asks of the rows that are appended to it: columns that it computes, and what each row must meet.
// They belong to one version's metadata, keep nothing of a batch, and may be used from any goroutine.
type Rules struct {
	now        func() time.Time
	generated  []generatedColumn
	checks     []columnCheck
	conditions []condition
	defaults   []Default
	partitions []int // columns of text or bytes, whose empty values read as null
	columns    int
	texts      []string // of all expressions and lengths, each after what it belongs to
}

// generatedColumn is one generated column: its value, and the condition that a given value meets.
type generatedColumn struct {
	column int
	field  arrow.Field
	text   string
	value  *expr.Program
	equal  *expr.Program
}

// condition is one CHECK constraint or invariant.
type condition struct {
	what string // `CHECK constraint "positive" (a > 0)`
	path string // the columns that it reads
	test *expr.Program
}

// Default is what a column gets in a row that has no value for it (PROTOCOL.md, "Default Columns").
type Default struct {
	Column int
	value  *expr.Program
	typ    arrow.DataType
	now    func() time.Time
}

// Value evaluates the default: an array with one value of the column's type, which the caller releases.
func (d Default) Value() arrow.Array {
	arr, _ := d.evaluate(d.now()) // it did not fail when it was compiled, and it reads no columns
	return arr
}

func (d Default) evaluate(now time.Time) (arrow.Array, error) {
	empty := array.NewRecordBatch(arrow.NewSchema(nil, nil), nil, 0)
	defer empty.Release()
	b := array.NewBuilder(memory.DefaultAllocator, d.typ)
	defer b.Release()
	err := d.value.Bind(empty, now).AppendTo(b, 0)
	return b.NewArray(), err
}

// Equal tells whether both ask the same of rows, as far as expressions and lengths of strings go.
func (r *Rules) Equal(o *Rules) bool { return slices.Equal(r.texts, o.texts) }

// Added is the text of an expression or a length of o, with what it belongs to, that the rules lack; "" where they have all of them.
func (r *Rules) Added(o *Rules) string {
	for _, text := range o.texts {
		if !slices.Contains(r.texts, text) {
			return text
		}
	}
	return ""
}

// Defaults are the table's column defaults, by column.
func (r *Rules) Defaults() []Default { return r.defaults }

// Rules compiles the table's rules; now gives the time of rows. An expression outside of the subset of docs/expressions.md is an
// *UnsupportedError, as it is from CheckAppend; so is a CHAR or VARCHAR whose length cannot be read.
func (s *state) Rules(now func() time.Time) (*Rules, error) {
	r, problems := s.compileRules(now)
	if problems == nil {
		return r, nil
	}
	refused := &UnsupportedError{}
	var details []string
	for _, p := range problems {
		if !slices.Contains(refused.Features, p.feature) {
			refused.Features = append(refused.Features, p.feature)
		}
		details = append(details, p.detail)
	}
	refused.Detail, refused.Remedy = strings.Join(details, "; "), ruleRemedy
	return nil, refused
}

// ruleRemedy is what can be done about an expression that is not understood.
const ruleRemedy = "change the expression to one that docs/expressions.md lists, or drop the rule with ALTER TABLE"

// ruleProblem is a rule of the table that is not understood.
type ruleProblem struct{ feature, detail string }

// ruleRefusals tells by feature what in the table's rules is not understood, the first of each.
func (s *state) ruleRefusals() map[string]string {
	details := map[string]string{}
	_, problems := s.compileRules(nil)
	for _, p := range slices.Backward(problems) {
		details[p.feature] = p.detail
	}
	return details
}

func (s *state) compileRules(now func() time.Time) (*Rules, []ruleProblem) {
	r := &Rules{now: now, columns: s.schema.NumFields()}
	var problems []ruleProblem
	refuse := func(feature, format string, args ...any) {
		problems = append(problems, ruleProblem{feature, fmt.Sprintf(format, args...)})
	}
	s.compileChecks(r, refuse)
	if s.supports("generatedColumns") {
		s.refuseNested(generationKey, "generatedColumns", "a generation expression", refuse)
		s.compileGenerated(r, refuse)
	}
	if s.supports("invariants") {
		s.compileInvariants(r, refuse)
	}
	if s.supports("checkConstraints") {
		s.compileConstraints(r, refuse)
	}
	if s.supports("allowColumnDefaults") {
		s.refuseNested(defaultKey, "allowColumnDefaults", "a default", refuse)
		s.compileDefaults(r, refuse)
	}
	return r, problems
}

// refuseNested refuses rules that are honoured for top-level columns only, where a field below one has them.
func (s *state) refuseNested(key, feature, what string, refuse func(feature, format string, args ...any)) {
	for _, column := range s.schema.Fields() {
		_ = walkType(column.Type, column.Name, func(path string, f arrow.Field) error {
			if _, ok, _ := columnRule(f, key); ok {
				refuse(feature, "the field %s has %s, and only top-level columns can have one", path, what)
			}
			return nil
		})
	}
}

// columnRule is the text of a rule in a column's metadata; false where there is none.
func columnRule(f arrow.Field, key string) (string, bool, error) {
	raw, ok := fieldMetadataOf(f, key)
	if !ok || string(raw) == "null" {
		return "", false, nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", true, fmt.Errorf("%s is no string: %s", key, raw)
	}
	return text, true, nil
}

// IsGenerated reports whether a schema says how a table computes the column (PROTOCOL.md, "Generated Columns").
func IsGenerated(f arrow.Field) bool {
	_, ok, _ := columnRule(f, generationKey)
	return ok
}

func (s *state) compileGenerated(r *Rules, refuse func(feature, format string, args ...any)) {
	const feature = "generatedColumns"
	var generated []int
	for i, f := range s.schema.Fields() {
		text, ok, err := columnRule(f, generationKey)
		if !ok {
			continue
		}
		g := generatedColumn{column: i, field: f, text: text}
		if err == nil {
			g.value, err = expr.CompileValue(text, s.schema, f.Type)
		}
		if err == nil {
			g.equal, err = expr.CompileEqual(text, s.schema, i)
		}
		if err != nil {
			refuse(feature, "the generated column %s: %v", f.Name, err)
			continue
		}
		generated = append(generated, i)
		r.texts = append(r.texts, "generated "+f.Name+" "+text)
		r.generated = append(r.generated, g)
	}
	for _, g := range r.generated {
		for _, c := range g.value.Columns() {
			if slices.Contains(generated, c) {
				refuse(feature, "the generated column %s: expression %q reads the generated column %s", g.field.Name, g.text, s.schema.Field(c).Name)
			}
		}
	}
}

// compileInvariants takes the invariants of columns and of fields of structs; the expressions name columns from the top.
// Where Delta's reference implementation overlooks them (a column that is NOT NULL too) the protocol counts.
func (s *state) compileInvariants(r *Rules, refuse func(feature, format string, args ...any)) {
	_ = walkFields(s.schema.Fields(), "", func(path string, f arrow.Field) error {
		const feature = "invariants"
		text, ok, err := columnRule(f, invariantsKey)
		if !ok {
			return nil
		}
		var rule struct {
			Expression struct {
				Expression string `json:"expression"`
			} `json:"expression"`
		}
		if err == nil {
			err = json.Unmarshal([]byte(text), &rule)
		}
		if err == nil && rule.Expression.Expression == "" {
			err = errors.New("it has no expression")
		}
		if err != nil {
			refuse(feature, "the invariant of column %s: %v: %s", path, err, text)
			return nil
		}
		s.addCondition(r, feature, "the invariant of column "+path, rule.Expression.Expression, refuse)
		return nil
	})
}

// constraintName is the name of the CHECK constraint that a table property holds. The reference implementation finds it
// whatever the case of the prefix.
func constraintName(key string) (string, bool) {
	if len(key) <= len(constraintPrefix) || !strings.EqualFold(key[:len(constraintPrefix)], constraintPrefix) {
		return "", false
	}
	return key[len(constraintPrefix):], true
}

func (s *state) compileConstraints(r *Rules, refuse func(feature, format string, args ...any)) {
	for _, key := range slices.Sorted(maps.Keys(s.metadata.Configuration)) {
		if name, ok := constraintName(key); ok {
			s.addCondition(r, "checkConstraints", "the CHECK constraint "+name, s.metadata.Configuration[key], refuse)
		}
	}
}

func (s *state) addCondition(r *Rules, feature, what, text string, refuse func(feature, format string, args ...any)) {
	p, err := expr.CompileCondition(text, s.schema)
	if err != nil {
		refuse(feature, "%s: %v", what, err)
		return
	}
	var names []string
	for _, c := range p.Columns() {
		names = append(names, s.schema.Field(c).Name)
	}
	r.texts = append(r.texts, what+" "+text)
	r.conditions = append(r.conditions, condition{fmt.Sprintf("%s (%s)", what, text), strings.Join(names, ", "), p})
}

// compileDefaults takes the defaults of top-level columns, which are the only ones. They read no columns.
func (s *state) compileDefaults(r *Rules, refuse func(feature, format string, args ...any)) {
	none := arrow.NewSchema(nil, nil)
	for i, f := range s.schema.Fields() {
		text, ok, err := columnRule(f, defaultKey)
		if !ok || err == nil && strings.EqualFold(strings.TrimSpace(text), "NULL") {
			continue
		}
		d := Default{Column: i, typ: f.Type, now: r.now}
		if err == nil {
			d.value, err = expr.CompileValue(text, none, f.Type)
		}
		if err == nil {
			var arr arrow.Array
			arr, err = d.evaluate(time.Time{})
			arr.Release()
		}
		if err != nil {
			refuse("allowColumnDefaults", "the default of column %s: %v", f.Name, err)
			continue
		}
		r.texts = append(r.texts, "default "+f.Name+" "+text)
		r.defaults = append(r.defaults, d)
	}
}

// Fills reports whether a column gets a value where a message has none: it is generated, or has a default.
func (r *Rules) Fills(column int) bool {
	return r.Generates(column) ||
		slices.ContainsFunc(r.defaults, func(d Default) bool { return d.Column == column })
}

// DefaultsToNow reports whether a column's default reads the clock.
func (r *Rules) DefaultsToNow(column int) bool {
	return slices.ContainsFunc(r.defaults, func(d Default) bool { return d.Column == column && d.value.ReadsClock() })
}

// Generates reports whether the table computes a column.
func (r *Rules) Generates(column int) bool {
	return slices.ContainsFunc(r.generated, func(g generatedColumn) bool { return g.column == column })
}

// Apply computes the generated columns that are null and checks the rows. It gives the batch to be written, which the
// caller releases besides rb, or at most one violation for a row, rows ascending. rb has the table's schema, all columns in
// order. A batch that has nothing to be computed or checked is returned as it is, without a look at its values.
//
// A row is violated by a null where the schema forbids it at any depth, as also by a null struct outside of lists and maps with a
// field that must not be null; by a string that is longer than its column's CHAR or VARCHAR; by a partition value that would not survive its way
// through the log; by a value of a generated column that differs from its expression (PROTOCOL.md, "Generated Columns": a
// message that gives null is taken as giving nothing); by a CHECK constraint or an invariant that is not true, NULL included
// ("CHECK Constraints", "Column Invariants"), where an empty partition value is NULL; and by an expression that fails for it, as with an overflow.
func (r *Rules) Apply(rb arrow.RecordBatch) (arrow.RecordBatch, []Violation) {
	if int(rb.NumCols()) != r.columns {
		panic(fmt.Sprintf("delta: a batch with %d columns for a table with %d", rb.NumCols(), r.columns))
	}
	v := violations{}
	var now time.Time
	if r.generated != nil || r.conditions != nil {
		now = r.now()
	}
	rb.Retain()
	for _, g := range r.generated {
		computed := g.apply(rb, now, &v)
		if computed == nil {
			continue
		}
		next, err := rb.SetColumn(g.column, computed)
		computed.Release()
		if err != nil {
			panic(fmt.Sprintf("delta: the generated column %s: %v", g.field.Name, err))
		}
		rb.Release()
		rb = next
	}
	for _, c := range r.checks {
		c.apply(rb.Column(c.column), &v)
	}
	if r.conditions != nil {
		read := r.asRead(rb)
		for _, c := range r.conditions {
			c.apply(read, now, &v)
		}
		read.Release()
	}
	if bad := v.inRowOrder(); bad != nil {
		rb.Release()
		return nil, bad
	}
	return rb, nil
}

// asRead is the batch as readers get it: empty values of partition columns are null (PROTOCOL.md, "Partition Value Serialization"), and that
// is what a constraint is about, as in Spark.
func (r *Rules) asRead(rb arrow.RecordBatch) arrow.RecordBatch {
	rb.Retain()
	for _, i := range r.partitions {
		arr := rb.Column(i)
		if !holdsEmpty(arr) {
			continue
		}
		read := emptyToNull(arr)
		next, err := rb.SetColumn(i, read)
		read.Release()
		if err != nil {
			panic(fmt.Sprintf("delta: the partition column %s: %v", rb.ColumnName(i), err))
		}
		rb.Release()
		rb = next
	}
	return rb
}

// apply checks the column's values and gives the computed column, or nil when every row has a value.
func (g *generatedColumn) apply(rb arrow.RecordBatch, now time.Time, v *violations) arrow.Array {
	given := rb.Column(g.column)
	rows, nulls := int(rb.NumRows()), given.NullN()
	if nulls < rows {
		equal := g.equal.Bind(rb, now)
		for row := range rows {
			if given.IsNull(row) || v.has(row) {
				continue
			}
			outcome, err := equal.Test(row)
			switch {
			case err != nil:
				v.add(row, g.field.Name, g.failed(err))
			case outcome != expr.True:
				v.add(row, g.field.Name, fmt.Sprintf("the value differs from the generation expression %s", g.text))
			}
		}
	}
	if nulls == 0 {
		return nil
	}
	value := g.value.Bind(rb, now)
	b := array.NewBuilder(memory.DefaultAllocator, g.field.Type)
	defer b.Release()
	b.Reserve(rows)
	for row := range rows { // those with a value too: it is the same, or the batch is refused
		if v.has(row) {
			b.AppendNull()
		} else if err := value.AppendTo(b, row); err != nil {
			v.add(row, g.field.Name, g.failed(err))
		}
	}
	return b.NewArray()
}

func (g *generatedColumn) failed(err error) string {
	return fmt.Sprintf("the generation expression %s fails: %v", g.text, err)
}

func (c *condition) apply(rb arrow.RecordBatch, now time.Time, v *violations) {
	rows := c.test.Bind(rb, now)
	for row := range int(rb.NumRows()) {
		outcome, err := rows.Test(row)
		if outcome == expr.True || v.has(row) {
			continue
		}
		switch {
		case err != nil:
			v.add(row, c.path, fmt.Sprintf("%s fails: %v", c.what, err))
		case outcome == expr.Null:
			v.add(row, c.path, c.what+" is NULL")
		default:
			v.add(row, c.path, c.what+" is FALSE")
		}
	}
}
