package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"kafkadelta/sink"
)

func tableCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "table", Short: "Make and look at tables", DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 { // without a RunE, cobra shows the help as if nothing were wrong
				return &configError{fmt.Errorf("unknown command %q for %q; see `%s --help`", args[0], cmd.CommandPath(), cmd.CommandPath())}
			}
			return cmd.Help()
		},
	}
	var store storeFlags
	cmd.PersistentFlags().StringVarP(&store.config, "config", "c", "", "configuration file whose storage section tells how to reach the table's store; the rest of it does not count")
	cmd.AddCommand(tableCreateCommand(&store), tableAppendCommand(&store), tableInspectCommand(&store), tableHistoryCommand(&store))
	return cmd
}

func tableError(op string, err error) error {
	if _, ok := errors.AsType[*sink.Error](err); ok {
		return err
	}
	return &sink.Error{Op: op, Err: err}
}
