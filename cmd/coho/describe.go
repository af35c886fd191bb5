package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"coho/destinations/salesforce/api"
)

func (c *cli) describeCommand() *cobra.Command {
	var destination string
	cmd := &cobra.Command{
		Use:   "describe OBJECT",
		Short: "Show an object's fields as the org describes them",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			client, done, err := c.lookInto(destination)
			if err != nil {
				return err
			}
			defer done()
			o, err := client.Describe(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				c.printJSON(o)
				return nil
			}
			fmt.Fprintf(c.stdout, "%s (%s): create %s, update %s, delete %s\n\n", o.Name, o.Label, yes(o.Createable), yes(o.Updateable), yes(o.Deletable))
			tw := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(tw, "FIELD\tTYPE\tCREATE\tUPDATE\tREQUIRED\tLABEL\tNOTES")
			for i := range o.Fields {
				f := &o.Fields[i]
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, typeText(f), yes(f.Createable), yes(f.Updateable), yes(f.Createable && !f.Nillable && !f.DefaultedOnCreate), f.Label, notes(f))
			}
			return tw.Flush()
		},
	}
	cmd.Flags().StringVar(&destination, "destination", "", "which org, where the config has several")
	return cmd
}

// lookInto connects to an org for a look, charged to its usage like any call.
func (c *cli) lookInto(destination string) (_ *api.Client, done func(), err error) {
	w, err := c.wire()
	if err != nil {
		return nil, nil, err
	}
	name, err := w.destinationName(destination)
	if err != nil {
		w.close()
		return nil, nil, err
	}
	client, err := w.client(name)
	if err != nil {
		w.close()
		return nil, nil, err
	}
	return client, func() {
		if err := client.Close(); err != nil {
			w.stderr(err)
		}
		w.close()
	}, nil
}

func typeText(f *api.Field) string {
	switch f.Type {
	case "string", "textarea", "picklist", "multipicklist", "email", "phone", "url", "encryptedstring", "combobox":
		return fmt.Sprintf("%s(%d)", f.Type, f.Length)
	case "double", "currency", "percent":
		return fmt.Sprintf("%s(%d,%d)", f.Type, f.Precision, f.Scale)
	case "reference":
		return "reference to " + strings.Join(f.ReferenceTo, ", ")
	}
	return f.Type
}

func notes(f *api.Field) string {
	var n []string
	for _, x := range []struct {
		is   bool
		text string
	}{{f.ExternalID, "external id"}, {f.IDLookup && !f.ExternalID, "id lookup"}, {f.Unique, "unique"}, {f.Calculated, "formula"}, {f.AutoNumber, "auto number"}, {f.RestrictedPicklist, "restricted"}} {
		if x.is {
			n = append(n, x.text)
		}
	}
	return strings.Join(n, ", ")
}

func (c *cli) queryCommand() *cobra.Command {
	var destination string
	cmd := &cobra.Command{
		Use:     "query SOQL",
		Short:   "Run a SOQL query in the org, a JSON document a record",
		Example: `  coho query "SELECT Id, Name FROM Account LIMIT 5"`,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			client, done, err := c.lookInto(destination)
			if err != nil {
				return err
			}
			defer done()
			q, err := client.Query(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			n := int64(0)
			for q.Next() {
				n++
				if _, err := fmt.Fprintf(c.stdout, "%s\n", q.Record().JSON()); err != nil {
					return errors.Join(err, q.Close())
				}
			}
			if err := errors.Join(q.Err(), q.Close()); err != nil {
				return err
			}
			if n == 0 && q.TotalSize() > 0 && !c.json {
				_, err := fmt.Fprintf(c.stdout, "{\"count\":%d}\n", q.TotalSize())
				return err
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&destination, "destination", "", "which org, where the config has several")
	return cmd
}
