package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"coho/engine/config"
)

func (c *cli) initCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented coho.toml to begin with",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
			if force {
				flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			}
			f, err := os.OpenFile(c.configPath, flags, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return &flagError{fmt.Errorf("%s is there already; --force overwrites it", c.configPath)}
			}
			if err != nil {
				return fmt.Errorf("write the config: %w", err)
			}
			_, err = f.Write(config.Starter())
			if err := errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("write the config: %w", err)
			}
			_, err = fmt.Fprintf(c.stdout, "wrote %s; edit it, then: coho validate\n", c.configPath)
			return err
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite a file that is there")
	return cmd
}
