package sink

import (
	"errors"
	"fmt"

	"kafkadelta/sink/datafile"
)

// Values of Config.Create.
const (
	CreateIfMissing = "if_missing"
	CreateNever     = "never"
)

// Values of Config.Combine.
const (
	CombineAuto = "auto"
	CombineOff  = "off"
)

// Config describes the table that a stream writes.
type Config struct {
	// URI is where the table is: a path, or a URI that storage/open knows.
	URI string `yaml:"uri"`
	// Create says what to do where there is no table: if_missing (default) makes it from Schema, never refuses.
	Create string `yaml:"create"`
	// Schema is the column list of a new table, in Spark's SQL notation. Of an existing table the table's own schema
	// counts, and the differences are listed at the start.
	Schema string `yaml:"schema"`
	// PartitionBy names the partition columns of a new table.
	PartitionBy []string `yaml:"partition_by"`
	// Properties are the table properties of a new table, such as delta.appendOnly.
	Properties map[string]string `yaml:"properties"`
	// Comment is the description of a new table.
	Comment string `yaml:"comment"`
	// SchemaEvolution says how the table follows the schema of the messages: none (default), add_columns, or add_and_widen.
	SchemaEvolution Evolution `yaml:"schema_evolution"`
	// Combine says what a worker does that keeps losing the race for the next version: auto (default) leaves its files for
	// whoever commits next, and carries those of others; off lets each commit for itself.
	Combine string `yaml:"combine"`
	// Parquet says how data files are written.
	Parquet datafile.Config `yaml:"parquet"`
}

// DefaultConfig returns the settings used where the configuration is silent.
func DefaultConfig() Config {
	return Config{Create: CreateIfMissing, Combine: CombineAuto, SchemaEvolution: EvolveNone, Parquet: datafile.Config{Compression: "zstd"}}
}

// Validate checks the settings without reaching for the table.
func (c Config) Validate() error {
	var errs []error
	if c.URI == "" {
		errs = append(errs, errors.New("table.uri is empty: name the table's folder"))
	}
	if c.Create != CreateIfMissing && c.Create != CreateNever {
		errs = append(errs, fmt.Errorf("table.create is %q: use %s or %s", c.Create, CreateIfMissing, CreateNever))
	}
	if c.SchemaEvolution != EvolveNone && c.SchemaEvolution != EvolveAdd && c.SchemaEvolution != EvolveWidens {
		errs = append(errs, fmt.Errorf("table.schema_evolution is %q: use %s, %s or %s", c.SchemaEvolution, EvolveNone, EvolveAdd, EvolveWidens))
	}
	if c.Combine != CombineAuto && c.Combine != CombineOff {
		errs = append(errs, fmt.Errorf("table.combine is %q: use %s or %s", c.Combine, CombineAuto, CombineOff))
	}
	return errors.Join(append(errs, c.Parquet.Validate())...)
}
