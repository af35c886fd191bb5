package emulator

import (
	"net/http"
	"strconv"
	"strings"
)

// route reads a request's address and names its kind, the word under which it
// is counted and under which faults find it.
func (c *call) route() {
	path := strings.Trim(c.r.URL.EscapedPath(), "/")
	seg := strings.Split(path, "/")
	c.kind = "other"
	if seg[0] == "emulator" {
		c.kind, c.path = "emulator", seg[1:]
		return
	}
	if seg[0] == "id" && len(seg) == 3 {
		c.kind = "userinfo"
		return
	}
	if seg[0] != "services" || len(seg) < 2 {
		return
	}
	switch seg[1] {
	case "oauth2":
		if len(seg) == 3 && (seg[2] == "token" || seg[2] == "revoke" || seg[2] == "userinfo") {
			c.kind = seg[2]
		}
	case "async":
		if len(seg) > 2 {
			c.path = seg[3:]
			c.number, _ = strconv.ParseFloat(seg[2], 64) // zero is no version
			c.kind = bulk1Kind(c.r.Method, c.path)
		}
	case "Soap":
		c.path, c.kind = seg[2:], "soap"
	case "data":
		if len(seg) == 2 {
			c.kind = "versions"
			return
		}
		c.setVersion(seg[2])
		c.path = seg[3:]
		c.kind = dataKind(c.r.Method, c.path)
	}
}

func (c *call) setVersion(seg string) {
	number, err := strconv.ParseFloat(strings.TrimPrefix(seg, "v"), 64)
	if err != nil || !strings.HasPrefix(seg, "v") || !strings.Contains(seg, ".") {
		c.version = "?"
		return
	}
	c.version, c.number = seg[1:], number
}

func verb(method string) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPatch:
		return "update"
	case http.MethodDelete:
		return "delete"
	default:
		return "get"
	}
}

func dataKind(method string, seg []string) string {
	if len(seg) == 0 {
		return "resources"
	}
	switch seg[0] {
	case "sobjects":
		return rowKind(method, seg[1:])
	case "query", "queryAll":
		if len(seg) > 1 {
			return "query.more"
		}
		return "query"
	case "composite":
		switch {
		case len(seg) == 1:
			return "composite"
		case seg[1] != "sobjects":
			return "composite." + seg[1]
		case len(seg) == 4 && method == http.MethodPatch:
			return "collections.upsert"
		case len(seg) == 3:
			return "collections.retrieve"
		default:
			return "collections." + verb(method)
		}
	case "jobs":
		if len(seg) < 2 {
			return "other"
		}
		prefix := "bulk."
		if seg[1] == "query" {
			prefix = "bulk_query."
		}
		return prefix + jobKind(method, seg[2:])
	}
	return seg[0]
}

func rowKind(method string, seg []string) string {
	switch {
	case len(seg) == 0:
		return "describe.global"
	case len(seg) > 1 && seg[1] == "describe":
		return "describe"
	case len(seg) == 1 && method != http.MethodPost:
		return "describe.basic"
	case len(seg) > 1 && (seg[1] == "updated" || seg[1] == "deleted"):
		return "replication"
	case len(seg) == 3 && method == http.MethodPatch:
		return "rows.upsert"
	default:
		return "rows." + verb(method)
	}
}

// jobKind names the calls on Bulk 2.0 jobs. A PATCH is called close, whether its
// body closes or aborts.
func jobKind(method string, seg []string) string {
	switch {
	case len(seg) == 0 && method == http.MethodPost:
		return "create"
	case len(seg) == 0:
		return "list"
	case len(seg) == 1 && method == http.MethodPatch:
		return "close"
	case len(seg) == 1 && method == http.MethodDelete:
		return "delete"
	case len(seg) == 1:
		return "status"
	case seg[1] == "batches":
		return "upload"
	default:
		return "results"
	}
}

func bulk1Kind(method string, seg []string) string {
	switch {
	case len(seg) == 1 && method == http.MethodPost:
		return "bulk1.create"
	case len(seg) == 2 && method == http.MethodPost:
		return "bulk1.close"
	case len(seg) == 3 && method == http.MethodPost:
		return "bulk1.batch"
	case len(seg) > 4 && (seg[4] == "result" || seg[4] == "request"):
		return "bulk1.results"
	default:
		return "bulk1.status"
	}
}
