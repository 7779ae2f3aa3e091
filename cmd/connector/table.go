package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"kafkadelta/sink"
)

func tableCommand() *cobra.Command {
	cmd := groupCommand("table", "Make and look at tables")
	var store storeFlags
	cmd.PersistentFlags().StringVarP(&store.config, "config", "c", "", "configuration file whose storage section tells how to reach the table's store; the rest of it does not count")
	cmd.AddCommand(tableCreateCommand(&store), tableAppendCommand(&store), tableInspectCommand(&store), tableHistoryCommand(&store))
	return cmd
}

// groupCommand is a command that has others below it, and does nothing by itself.
func groupCommand(name, short string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 { // without a RunE, cobra shows the help as if nothing were wrong
				return &configError{fmt.Errorf("unknown command %q for %q; see `%s --help`", args[0], cmd.CommandPath(), cmd.CommandPath())}
			}
			return cmd.Help()
		},
	}
}

func tableError(op string, err error) error {
	if _, ok := errors.AsType[*sink.Error](err); ok {
		return err
	}
	return &sink.Error{Op: op, Err: err}
}
