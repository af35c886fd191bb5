package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"coho/models"
	"coho/sources"
)

const (
	// minPages is the size of a table, in pages of usually 8 kB, from which on a
	// second connection is worth its while.
	minPages = 1024

	// tidRangeVersion is the first server that reads a range of a table's pages
	// and only that.
	tidRangeVersion = 140000

	tidRangeScan = "Tid Range Scan"
)

// dividedSQL gives a table's pages, and a name for what the transaction sees, where
// the table can be read in parts: one with pages of its own, no children, no
// policies on its rows, on a server that may export its view of things.
const dividedSQL = `
SELECT pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint,
	CASE WHEN pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint >= $2::bigint
		THEN pg_catalog.pg_export_snapshot() END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE c.oid = pg_catalog.to_regclass($1) AND c.relkind = 'r' AND a.amname = 'heap' AND c.relpersistence <> 't'
	AND NOT c.relhassubclass AND NOT c.relrowsecurity AND NOT pg_catalog.pg_is_in_recovery()`

// ReadParts implements sources.Parted. A table is read over two connections under
// one exported snapshot, each a half of its pages. What stands against it is no
// error: then it is read over one.
func (s *Source) ReadParts(ctx context.Context, m models.Model) ([]sources.Rows, error) {
	if m.Table != "" && m.Groups == nil { // a group may have rows in both halves
		parts, err := s.readHalves(ctx, m)
		if err == nil {
			return parts, nil
		}
		if ctx.Err() != nil {
			return nil, canceledError(ctx)
		}
		s.log.DebugContext(ctx, "the table is read over one connection", "model", m.Name, "reason", err)
	}
	rows, err := s.Read(ctx, m)
	if err != nil {
		return nil, err
	}
	return []sources.Rows{rows}, nil
}

// errWhole says that a table is not divided.
var errWhole = errors.New("the table is small, has no pages of its own, or the server cannot share what it sees")

func (s *Source) readHalves(ctx context.Context, m models.Model) (_ []sources.Rows, err error) {
	query, err := querySQL(m)
	if err != nil {
		return nil, err
	}
	name, err := quoteTable(m.Table)
	if err != nil {
		return nil, err
	}
	first, cancelFirst := s.bound(ctx)
	c, err := s.begin(first)
	if err != nil {
		cancelFirst()
		return nil, err
	}
	middle, snapshot, err := s.divide(first, c, name)
	if err != nil {
		s.finish(c)
		cancelFirst()
		return nil, err
	}
	second, cancelSecond := s.bound(ctx)
	d, err := s.beginAt(second, snapshot)
	if err != nil {
		cancelSecond()
		s.log.DebugContext(ctx, "the table is read over one connection", "model", m.Name, "reason", err)
		// On the connection that is there: were it closed, the server would count
		// it for a while yet, and might refuse the next one too.
		whole, err := s.readOn(first, cancelFirst, c, query, "")
		if err != nil {
			return nil, err
		}
		return []sources.Rows{whole}, nil
	}
	low, err := s.readOn(first, cancelFirst, c, fmt.Sprintf("%s WHERE ctid < '(%d,0)'::pg_catalog.tid", query, middle), tidRangeScan)
	if err != nil {
		s.finish(d)
		cancelSecond()
		return nil, err
	}
	high, err := s.readOn(second, cancelSecond, d, fmt.Sprintf("%s WHERE ctid >= '(%d,0)'::pg_catalog.tid", query, middle), tidRangeScan)
	if err != nil {
		return nil, errors.Join(err, low.Close())
	}
	if low.schema.version != high.schema.version {
		return nil, errors.Join(errors.New("two connections read the table differently"), low.Close(), high.Close())
	}
	return []sources.Rows{low, high}, nil
}

// divide returns the page on which a table's second half begins, and the name of
// what the transaction sees.
func (s *Source) divide(ctx context.Context, c *conn, table string) (middle int64, snapshot string, err error) {
	if v, err := strconv.Atoi(c.settings.version); err != nil || v < tidRangeVersion {
		return 0, "", errWhole
	}
	params := [][]byte{[]byte(table), []byte(strconv.Itoa(minPages))}
	result := c.pg.ExecParams(ctx, dividedSQL, params, nil, nil, nil).Read()
	if result.Err != nil {
		return 0, "", s.queryError(ctx, result.Err, "")
	}
	if len(result.Rows) != 1 || result.Rows[0][1] == nil {
		return 0, "", errWhole
	}
	pages, err := strconv.ParseInt(string(result.Rows[0][0]), 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("the server says that the table has %q pages", result.Rows[0][0])
	}
	return half(pages), string(result.Rows[0][1]), nil
}

// half is about the middle of a table, and the same one while it grows by a few
// hundredths: rows that change halves are not where the last read had them.
func half(pages int64) int64 {
	step := int64(1) << max(bits.Len64(uint64(pages))-5, 0)
	return pages / 2 / step * step
}

// explain returns the server's plan of a query, "" where it gives none.
func (s *Source) explain(ctx context.Context, c *conn, query string) string {
	// What cannot be explained must not end the transaction.
	results, err := c.pg.Exec(ctx, "SAVEPOINT coho").ReadAll()
	if err == nil {
		results, err = c.pg.Exec(ctx, "EXPLAIN "+query).ReadAll()
	}
	if err != nil {
		_, undo := c.pg.Exec(ctx, "ROLLBACK TO SAVEPOINT coho").ReadAll()
		s.log.DebugContext(ctx, "explain the query", "error", errors.Join(s.queryError(ctx, err, query), undo))
		return ""
	}
	var b strings.Builder
	for _, r := range results {
		for _, row := range r.Rows {
			if len(row) == 1 {
				b.Write(row[0])
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

// expectedRows reads the number of rows off a plan's first line, -1 where it is not
// there.
func expectedRows(plan string) int64 {
	line, _, _ := strings.Cut(plan, "\n")
	_, after, ok := strings.Cut(line, " rows=")
	if !ok {
		return -1
	}
	digits, _, _ := strings.Cut(after, " ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
