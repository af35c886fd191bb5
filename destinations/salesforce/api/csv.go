package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxRow bounds a row of a result file; the org's own limit is 400,000
// characters of data.
const maxRow = 16 << 20

// csvReader reads RFC 4180 rows. Unlike encoding/csv it leaves line breaks
// inside quotes as they are, because a key is found again by its exact text.
type csvReader struct {
	in    *bufio.Reader
	buf   []byte   // the row's cells, one after the other
	ends  []int    // where each cell ends in buf
	cells []string // the row, reused
	begun bool
}

func newCSVReader(r io.Reader) *csvReader {
	return &csvReader{in: bufio.NewReaderSize(r, 64<<10)}
}

var errBigRow = errors.New("a row is larger than 16 MB")

// read returns the next row, valid until the next call; blank lines are passed
// over. io.EOF is the end of a file that ended properly.
func (c *csvReader) read() ([]string, error) {
	if !c.begun {
		c.begun = true
		if bom, err := c.in.Peek(3); err == nil && string(bom) == "\xef\xbb\xbf" {
			_, _ = c.in.Discard(3)
		}
	}
	for {
		c.buf, c.ends = c.buf[:0], c.ends[:0]
		quoted, err := c.line()
		if err != nil {
			return nil, err
		}
		if len(c.ends) > 1 || len(c.buf) > 0 || quoted {
			break
		}
	}
	text := string(c.buf)
	c.cells = c.cells[:0]
	start := 0
	for _, end := range c.ends {
		c.cells = append(c.cells, text[start:end])
		start = end
	}
	return c.cells, nil
}

// line reads one row into buf and ends, and says whether its last cell was
// quoted.
func (c *csvReader) line() (quoted bool, err error) {
	for first := true; ; first = false {
		ch, err := c.in.ReadByte()
		if err == io.EOF && first {
			return false, io.EOF
		}
		quoted = err == nil && ch == '"'
		switch {
		case quoted:
			if err := c.quotedCell(); err != nil {
				return false, err
			}
			ch, err = c.in.ReadByte()
			if err == nil && ch == '\r' {
				ch, err = c.in.ReadByte()
				if err == nil && ch != '\n' {
					return false, errors.New("a carriage return follows a closing quote")
				}
			}
			if err == nil && ch != ',' && ch != '\n' {
				return false, fmt.Errorf("%q follows a closing quote", ch)
			}
		default:
			for err == nil && ch != ',' && ch != '\n' {
				c.buf = append(c.buf, ch)
				if len(c.buf) > maxRow {
					return false, errBigRow
				}
				ch, err = c.in.ReadByte()
			}
			if err == nil && ch == '\n' || err == io.EOF {
				c.buf = c.trimReturn()
			}
		}
		if err == io.EOF && !quoted && len(c.ends) > 0 && len(c.buf) == c.ends[len(c.ends)-1] {
			return false, fmt.Errorf("the file ends after a comma: %w", io.ErrUnexpectedEOF)
		}
		c.ends = append(c.ends, len(c.buf))
		switch {
		case err == io.EOF:
			return quoted, nil
		case err != nil:
			return false, err
		case ch == '\n':
			return quoted, nil
		}
	}
}

// trimReturn takes the carriage return of a CRLF off the last, unquoted cell.
func (c *csvReader) trimReturn() []byte {
	start := 0
	if len(c.ends) > 0 {
		start = c.ends[len(c.ends)-1]
	}
	if n := len(c.buf); n > start && c.buf[n-1] == '\r' {
		return c.buf[:n-1]
	}
	return c.buf
}

// quotedCell reads up to and with the closing quote.
func (c *csvReader) quotedCell() error {
	for {
		part, err := c.in.ReadSlice('"')
		c.buf = append(c.buf, part...)
		switch {
		case len(c.buf) > maxRow:
			return errBigRow
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF:
			return fmt.Errorf("a quoted cell is not closed: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
		next, err := c.in.Peek(1)
		if err == nil && bytes.Equal(next, []byte{'"'}) {
			_, _ = c.in.Discard(1) // the pair stands for the one already kept
			continue
		}
		if err != nil && err != io.EOF {
			return err
		}
		c.buf = c.buf[:len(c.buf)-1]
		return nil
	}
}
