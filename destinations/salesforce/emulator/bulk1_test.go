package emulator_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"coho/destinations/salesforce/emulator"
)

// A batch that is still coming in when its job is closed is refused, as one that
// comes later is: who closes a job knows that its list of batches is whole.
func TestBulk1BatchBehindTheClosing(t *testing.T) {
	c := start(t, emulator.Options{})
	const control = "application/xml; charset=UTF-8"
	id := c.classic(`<?xml version="1.0" encoding="UTF-8"?><jobInfo xmlns="http://www.force.com/2009/06/asyncapi/dataload"><operation>insert</operation><object>Account</object><contentType>CSV</contentType></jobInfo>`, control)
	body, text := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", c.s.URL()+async+"/"+id+"/batch", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-SFDC-Session", c.token)
	req.Header.Set("Content-Type", "text/csv; charset=UTF-8")
	answers := make(chan string, 1)
	go func() {
		resp, err := c.http.Do(req)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer func() { _ = resp.Body.Close() }()
		said, _ := io.ReadAll(resp.Body)
		answers <- resp.Status + " " + string(said)
	}()
	// More than a connection holds, so that the org has begun to read it.
	if _, err := io.WriteString(text, "Name\n"+strings.Repeat("Acme\n", 1_600_000)); err != nil {
		t.Fatal(err)
	}
	c.want(200, "POST", async+"/"+id, `<?xml version="1.0" encoding="UTF-8"?><jobInfo xmlns="http://www.force.com/2009/06/asyncapi/dataload"><state>Closed</state></jobInfo>`, "X-SFDC-Session", c.token, "Content-Type", control)
	if err := text.Close(); err != nil {
		t.Fatal(err)
	}
	if said := <-answers; !strings.HasPrefix(said, "400 ") || !strings.Contains(said, "InvalidJobState") {
		t.Fatal(said)
	}
	if list := c.want(200, "GET", async+"/"+id+"/batch", "", "X-SFDC-Session", c.token).body; strings.Contains(list, "<batchInfo>") {
		t.Fatal(list)
	}
}
