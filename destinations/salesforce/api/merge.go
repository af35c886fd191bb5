package api

import (
	"bytes"
	"context"
	"fmt"
)

// The calls of the partner WSDL that REST has no counterpart of.

const (
	// MaxMerges is how many requests a merge call takes, and MaxVictims how many
	// records each merges into its master (SOAP API Developer Guide, "merge()").
	MaxMerges  = 200
	MaxVictims = 2

	// MaxFindDuplicates is how many records findDuplicates compares in a call
	// (SOAP API Developer Guide, "findDuplicates()").
	MaxFindDuplicates = 50
)

// MergeRequest merges one or two records into a master. Each request is a
// transaction of its own; the org takes the requests of a call in their order.
type MergeRequest struct {
	Master  string // Id
	Victims []string
}

// MergeResult is what became of one request.
type MergeResult struct {
	Success bool
	Errors  []RowError
}

// Merge merges records of an object: the children of the victims become the
// master's and the victims go to the recycle bin, where MasterRecordId names the
// master. Fields of the master stay as they are. The results are as many as the
// requests and in their order. Nothing is repeated after a lost answer: see
// Error.Unknown.
func (c *Client) Merge(ctx context.Context, object string, requests []MergeRequest, o CollectionOptions) ([]MergeResult, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	op := "merge " + object + " records"
	if len(requests) > MaxMerges {
		return nil, &Error{Op: op, Code: "EXCEEDED_ID_LIMIT", Class: StopRun, Message: fmt.Sprintf("%d requests in one call, of at most %d", len(requests), MaxMerges)}
	}
	var body bytes.Buffer
	rows := 0
	body.WriteString("<merge>")
	for _, r := range requests {
		body.WriteString("<request><masterRecord>")
		writeIn(&body, "type", object)
		writeIn(&body, "Id", r.Master)
		body.WriteString("</masterRecord>")
		for _, v := range r.Victims {
			id := element("recordToMergeIds", v)
			id.write(&body)
		}
		body.WriteString("</request>")
		rows += len(r.Victims)
	}
	body.WriteString("</merge>")
	r := c.partnerCall(op, o.AllowDuplicates, body.Bytes())
	r.rows = int64(rows)
	answers, err := c.partnerDo(ctx, r, len(requests))
	if err != nil {
		return nil, err
	}
	results := make([]MergeResult, len(requests))
	for i, a := range answers {
		results[i].Success = a.kidText("success") == "true"
		for _, e := range a.all("errors") {
			one := RowError{Code: e.kidText("statusCode"), Message: e.kidText("message")}
			for _, f := range e.all("fields") {
				one.Fields = append(one.Fields, f.text)
			}
			results[i].Errors = append(results[i].Errors, one)
		}
	}
	return results, nil
}

// FieldValue is a field of a record with its value as XML Schema writes it.
type FieldValue struct{ Name, Value string }

// FindDuplicates has the object's duplicate rules compare records, which need
// not be there, and returns for each the Ids of what they find, each once. It
// writes nothing.
func (c *Client) FindDuplicates(ctx context.Context, object string, records [][]FieldValue) ([][]string, error) {
	if len(records) == 0 {
		return nil, nil
	}
	op := "find duplicates of " + object + " records"
	if len(records) > MaxFindDuplicates {
		return nil, &Error{Op: op, Code: "EXCEEDED_ID_LIMIT", Class: StopRun, Message: fmt.Sprintf("%d records in one call, of at most %d", len(records), MaxFindDuplicates)}
	}
	var body bytes.Buffer
	body.WriteString("<findDuplicates>")
	for _, fields := range records {
		body.WriteString("<sObjects>")
		writeIn(&body, "type", object)
		for _, f := range fields {
			writeIn(&body, f.Name, f.Value)
		}
		body.WriteString("</sObjects>")
	}
	body.WriteString("</findDuplicates>")
	r := c.partnerCall(op, false, body.Bytes())
	r.repeat = true
	answers, err := c.partnerDo(ctx, r, len(records))
	if err != nil {
		return nil, err
	}
	found := make([][]string, len(records))
	for i, a := range answers {
		var ids []string
		for _, id := range a.all("duplicateResults", "matchResults", "matchRecords", "record", "Id") {
			ids = append(ids, id.text)
		}
		found[i] = distinct(ids)
	}
	return found, nil
}

// distinct drops what is empty or there before.
func distinct(ids []string) []string {
	var out []string
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if id != "" && !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// recordSpace is the namespace of what is in a record.
const (
	partnerSpace = "urn:partner.soap.sforce.com"
	recordSpace  = "urn:sobject.partner.soap.sforce.com"
)

// partnerDo makes a call of the partner WSDL and returns its results, as many as
// are wanted.
func (c *Client) partnerDo(ctx context.Context, r *call, want int) ([]*node, error) {
	answer, err := c.soapDo(ctx, r)
	if err != nil {
		return nil, err
	}
	results := answer.all("result")
	if len(results) != want {
		return nil, &Error{Op: r.op, Class: Wait, Unknown: true, Message: fmt.Sprintf("%d results where %d were asked for", len(results), want)}
	}
	return results, nil
}

// partnerCall is a call of the partner WSDL.
func (c *Client) partnerCall(op string, allowDuplicates bool, body []byte) *call {
	r := soapCall(op, "/services/Soap/u/"+c.cfg.APIVersion, partnerSpace, body)
	r.soapHeaders = fmt.Sprintf("<DuplicateRuleHeader><allowSave>%t</allowSave><includeRecordDetails>false</includeRecordDetails><runAsCurrentUser>true</runAsCurrentUser></DuplicateRuleHeader>", allowDuplicates)
	return r
}

// writeIn writes an element of a record.
func writeIn(b *bytes.Buffer, name, text string) {
	b.WriteString("<" + name + ` xmlns="` + recordSpace + `">`)
	escapeText(b, text)
	b.WriteString("</" + name + ">")
}

// all returns the elements that are reached by the names, one below the other.
func (n *node) all(names ...string) []*node {
	if n == nil {
		return nil
	}
	if len(names) == 0 {
		return []*node{n}
	}
	var out []*node
	for i := range n.kids {
		if n.kids[i].name == names[0] {
			out = append(out, n.kids[i].all(names[1:]...)...)
		}
	}
	return out
}
