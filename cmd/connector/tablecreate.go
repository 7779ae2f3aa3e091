package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kafkadelta/delta"
	"kafkadelta/storage/open"
)

func tableCreateCommand(stores *storeFlags) *cobra.Command {
	var ddl, comment string
	var partitionBy, clusterBy, features []string
	var properties propertiesFlag
	cmd := &cobra.Command{
		Use:   "create URI --schema DDL",
		Short: "Make an empty table",
		Example: `  connector table create ./data/web_requests \
    --schema "method STRING, status INT NOT NULL, meta STRUCT<at: TIMESTAMP>, date DATE" \
    --partition-by date --property delta.appendOnly=true

  connector table create ./data/orders --schema 'id BIGINT, ` + "`customer name`" + ` STRING' --cluster-by id \
    --property delta.columnMapping.mode=name --property delta.enableRowTracking=true --feature deletionVectors`,
		Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			schema, err := delta.ParseDDL(ddl)
			if err != nil {
				return &configError{fmt.Errorf("--schema: %w", err)}
			}
			options := delta.CreateOptions{
				Schema: schema, PartitionBy: partitionBy, ClusterBy: clusterBy, Properties: properties, Features: features,
				Description: comment, Now: time.Now, Engine: engine(),
			}
			if err := delta.CheckCreate(options); err != nil {
				return &configError{err}
			}
			store, err := stores.open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := delta.Create(cmd.Context(), store, options); errors.Is(err, fs.ErrExist) {
				return tableError("creating the table", fmt.Errorf("%s is a Delta table already: %w", open.Redact(args[0]), err))
			} else if err != nil {
				return tableError("creating the table", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "made table %s, version 0\n", open.Redact(args[0]))
			return err
		},
	}
	cmd.Flags().StringVar(&ddl, "schema", "", "column list in Spark's SQL notation (required)")
	cmd.Flags().StringSliceVar(&partitionBy, "partition-by", nil, "partition columns, separated by commas")
	cmd.Flags().StringSliceVar(&clusterBy, "cluster-by", nil, "clustering columns, separated by commas, fields of structs as a.b; not with --partition-by")
	cmd.Flags().StringSliceVar(&features, "feature", nil, "table features besides those that the schema and the properties need, separated by commas")
	cmd.Flags().Var(&properties, "property", "table property as `key=value`, the value as it stands; may be repeated")
	cmd.Flags().StringVar(&comment, "comment", "", "description of the table")
	must(cmd.MarkFlagRequired("schema"))
	return cmd
}

// propertiesFlag takes key=value, once for each property. Values are constraints, too: commas and quotes in them mean nothing here.
type propertiesFlag map[string]string

// String is for pflag, which shows it as the default.
func (p *propertiesFlag) String() string { return "" }

// Type is for pflag.
func (p *propertiesFlag) Type() string { return "key=value" }

// Set adds a property.
func (p *propertiesFlag) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return errors.New("write key=value")
	}
	if *p == nil {
		*p = propertiesFlag{}
	}
	(*p)[key] = value
	return nil
}
