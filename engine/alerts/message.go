package alerts

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"coho/engine"
)

// facts is what of a run is told: no values, no addresses.
type facts struct {
	Run    string        `json:"run"`
	Status engine.Status `json:"status"`
	At     time.Time     `json:"at"`
	Reason string        `json:"reason,omitempty"`
	Rows   bool          `json:"rows,omitempty"` // rows failed
}

const (
	reasonRunes = 300
	shownCodes  = 3
)

func factsOf(r *engine.Run) facts {
	f := facts{Run: r.ID, Status: r.Status, At: r.StartedAt.UTC(), Rows: len(r.Errors) > 0}
	if r.FinishedAt != nil {
		f.At = r.FinishedAt.UTC()
	}
	var parts []string
	if line, _, _ := strings.Cut(strings.TrimSpace(r.Error), "\n"); line != "" {
		parts = append(parts, clip(line, reasonRunes))
	}
	if len(r.Errors) > 0 {
		var rows int64
		var codes []string
		for i, e := range r.Errors {
			rows += e.Count
			if i < shownCodes {
				codes = append(codes, e.Code+" "+strconv.FormatInt(e.Count, 10))
			}
		}
		more := ""
		if n := len(r.Errors) - shownCodes; n > 0 {
			more = fmt.Sprintf(" and %d more codes", n)
		}
		parts = append(parts, fmt.Sprintf("%d rows failed: %s%s", rows, strings.Join(codes, ", "), more))
	}
	f.Reason = strings.Join(parts, "; ")
	return f
}

func clip(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-3]) + "..."
	}
	return s
}

// message is what is sent, before it takes the form of its service.
type message struct {
	event   string // an event, or "test"
	sync    string
	status  engine.Status
	run     string
	title   string
	reason  string
	when    string
	command string
}

func compose(event, sync string, latest facts, was told, host string) message {
	m := message{
		event: event, sync: sync, status: latest.Status, run: latest.Run, reason: latest.Reason,
		when:    fmt.Sprintf("run %s ended %s on %s", latest.Run, latest.At.Format("2006-01-02 15:04 UTC"), host),
		command: "coho runs show " + latest.Run,
	}
	verb := map[string]string{
		string(engine.Failed): "failed", string(engine.Halted): "was halted",
		string(engine.CompletedWithErrors): "completed with errors", Recovered: "recovered",
	}[event]
	m.title = fmt.Sprintf("coho: %s %s", sync, verb)
	if event == Recovered {
		m.reason = fmt.Sprintf("it had %s in run %s", strings.ReplaceAll(string(was.Status), "_", " "), was.Run)
		if latest.Reason != "" {
			m.reason += "; now " + latest.Reason
		}
	}
	if latest.Rows {
		m.command += " and coho runs errors " + latest.Run
	}
	return m
}

func testMessage(alert, host string) message {
	return message{
		event: "test", title: "coho: test of the alert " + alert, reason: "nothing happened; a real message would say here what did",
		when: "sent from " + host, command: "coho status",
	}
}

// lines are the message below its title.
func (m *message) lines() []string {
	var out []string
	for _, line := range []string{m.reason, m.when, "look further: " + m.command} {
		if line != "" {
			out = append(out, line)
		}
	}
	return out
}
