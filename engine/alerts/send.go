package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"coho/models"
)

// sender is one service of the library, set up for one address. The library's
// services keep what a message sets in them, so each message gets a new one.
type sender struct {
	service types.Service
	kind    string // the library's scheme, or workflow
	dedup   string // pagerduty: what the address says
	plain   bool   // generic: a text, not JSON
	secret  *strings.Replacer
}

// workflow is a Teams workflow's webhook, which takes an Adaptive Card. The
// library's own Teams service speaks to the connectors that workflows replace.
const workflow = "workflow"

// newSender sets a service up. Its errors do not hold the address.
func newSender(address models.Secret) (s *sender, err error) {
	u, err := url.Parse(address.Reveal())
	if err != nil || u.Scheme == "" {
		return nil, errors.New("it is neither a web address nor one that shoutrrr knows, such as slack://, teams://, pagerduty://, smtp:// or generic://")
	}
	s = &sender{kind: strings.ToLower(u.Scheme), secret: redactor(u)}
	host := strings.ToLower(u.Hostname())
	text := u.String()
	query := u.Query()
	web := strings.TrimPrefix(text, "teams+")
	switch {
	case s.kind == "https" && host == "hooks.slack.com" && strings.HasPrefix(u.Path, "/services/"):
		s.kind, text = "slack", "slack://hook:"+strings.ReplaceAll(strings.TrimPrefix(u.Path, "/services/"), "/", "-")+"@webhook"
	case s.kind == "https" && strings.HasSuffix(host, ".webhook.office.com"):
		s.kind, text = "teams", "teams+"+text
	case s.kind == "teams+https" && strings.HasSuffix(host, ".webhook.office.com"):
		s.kind = "teams"
	case s.kind == "teams+https", s.kind == "teams+http", s.kind == "https" && isWorkflow(host):
		s.kind, text = workflow, asGeneric(web, workflow)
	case s.kind == "https", s.kind == "http":
		s.kind, text = "generic", asGeneric(text, "json")
	case s.kind == "generic", strings.HasPrefix(s.kind, "generic+"):
		s.kind, s.plain = "generic", query.Get("template") == ""
	case s.kind == "pagerduty":
		s.dedup = query.Get("dedup_key")
		// The library names these as defaults and does not fill them in.
		to := *u
		if host == "" {
			host = "events.pagerduty.com"
		}
		if to.Host = host + ":443"; u.Port() != "" {
			to.Host = host + ":" + u.Port()
		}
		text = to.String()
	case s.kind == "logger":
		return nil, errors.New("shoutrrr's logger:// tells nobody")
	}
	defer func() { // of a library that reads what people wrote
		if r := recover(); r != nil {
			err = errors.New("shoutrrr cannot read it")
		}
	}()
	var services router.ServiceRouter
	if s.service, err = services.Locate(text); err != nil {
		return nil, fmt.Errorf("shoutrrr refuses it: %s", s.scrub(err))
	}
	if s.kind == workflow {
		t, ok := s.service.(interface {
			SetTemplateString(id, body string) error
		})
		if !ok {
			return nil, errors.New("this shoutrrr cannot send cards")
		}
		if err := t.SetTemplateString(workflow, "{{.card}}"); err != nil {
			return nil, fmt.Errorf("set the card up: %w", err)
		}
	}
	return s, nil
}

// isWorkflow reports whether a host is one at which Power Automate has the
// webhooks of Teams workflows ("Create incoming webhooks with Workflows for
// Microsoft Teams").
func isWorkflow(host string) bool {
	return strings.HasSuffix(host, ".logic.azure.com") || strings.HasSuffix(host, ".powerplatform.com")
}

// genericKeys are the keys that the library's generic service takes out of a
// query for itself; written with two underscores before them, they stay.
var genericKeys = []string{"contenttype", "disabletls", "template", "title", "titlekey", "messagekey", "method"}

// asGeneric makes a web address one of the generic service, which posts what the
// template makes to that very address.
func asGeneric(address, template string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "generic+" + address
	}
	query := u.Query()
	for _, key := range genericKeys {
		if values, ok := query[key]; ok {
			delete(query, key)
			query["__"+key] = values
		}
	}
	query.Set("template", template)
	u.RawQuery = query.Encode()
	return "generic+" + u.String()
}

// titled are the services whose messages can have a title of their own; to
// others it is the first line.
var titled = []string{"slack", "teams", "smtp", "discord", "ntfy", "gotify", "pushover", "pushbullet"}

// send hands a message to the library and waits for its answer. ctx does not
// reach the library: see delivery.
func (s *sender) send(m message) error {
	params := types.Params{}
	lines := m.lines()
	text := strings.Join(lines, "\n")
	good := m.event == Recovered || m.event == "test"
	switch {
	case s.kind == "pagerduty":
		// The summary is what an incident is called; the rest is its details.
		text = m.title
		if m.reason != "" {
			text += ": " + m.reason
		}
		details, err := json.Marshal(map[string]string{"sync": m.sync, "status": string(m.status), "run": m.run, "when": m.when, "command": m.command})
		if err != nil {
			return fmt.Errorf("encode the details: %w", err)
		}
		params["details"], params["client"], params["source"] = string(details), "coho", strings.TrimSpace("coho "+m.sync)
		params["dedup_key"] = strings.TrimPrefix(s.dedup+"/coho/"+m.sync, "/")
		switch {
		case m.event == Recovered:
			params["action"] = "resolve"
		case m.event == "test" || m.event == "completed_with_errors":
			params["severity"] = "warning"
		}
	case s.kind == "generic" && !s.plain:
		params["title"] = m.title
		for key, value := range map[string]string{"event": m.event, "sync": m.sync, "status": string(m.status), "run": m.run, "reason": m.reason, "command": m.command} {
			params[key] = value
		}
	case s.kind == workflow:
		card, err := adaptiveCard(m.title, lines)
		if err != nil {
			return err
		}
		params["card"] = card
	case slices.Contains(titled, s.kind):
		params["title"] = m.title
		switch s.kind {
		case "slack":
			params["title"], text = slackText.Replace(m.title), slackText.Replace(text)
			if params["color"] = "danger"; good {
				params["color"] = "good"
			}
		case "teams":
			if params["color"] = "D93F0B"; good {
				params["color"] = "0E8A16"
			}
		}
	default:
		text = m.title + "\n" + text
	}
	if err := s.service.Send(text, &params); err != nil {
		return errors.New(s.scrub(err))
	}
	return nil
}

// slackText escapes what is markup to Slack ("Formatting text for app surfaces",
// "Escaping text").
var slackText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// adaptiveCard is the message that a Teams workflow posts ("Adaptive Cards",
// schema 1.4).
func adaptiveCard(title string, lines []string) (string, error) {
	type block struct {
		Type   string `json:"type"`
		Text   string `json:"text"`
		Wrap   bool   `json:"wrap"`
		Weight string `json:"weight,omitempty"`
	}
	body := []block{{"TextBlock", title, true, "bolder"}}
	for _, line := range lines {
		body = append(body, block{"TextBlock", line, true, ""})
	}
	card := map[string]any{
		"type": "message",
		"attachments": []any{map[string]any{
			"contentType": "application/vnd.microsoft.card.adaptive",
			"content": map[string]any{
				"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body,
			},
		}},
	}
	b, err := json.Marshal(card)
	if err != nil {
		return "", fmt.Errorf("encode the card: %w", err)
	}
	return string(b), nil
}

// redactor takes the parts of an address out of a text: all that may be a token.
func redactor(u *url.URL) *strings.Replacer {
	var secrets []string
	add := func(least int, texts ...string) {
		for _, t := range texts {
			if len(t) >= least {
				secrets = append(secrets, t, url.QueryEscape(t), url.PathEscape(t))
			}
		}
	}
	add(1, u.String())
	if u.RawQuery != "" {
		add(1, u.RawQuery)
	}
	if u.User != nil {
		password, _ := u.User.Password()
		add(3, u.User.Username(), password)
		add(6, strings.FieldsFunc(u.User.Username()+"-"+password, func(r rune) bool { return strings.ContainsRune("-/,:", r) })...)
	}
	if !strings.Contains(u.Host, ".") && u.Port() == "" {
		add(6, u.Host) // slack://T0000/B0000/XXXX has its token there
	}
	add(6, strings.Split(u.Path, "/")...)
	for _, values := range u.Query() {
		add(6, values...)
	}
	// The longest first, so that no rest of one is left.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, "[redacted]")
	}
	return strings.NewReplacer(pairs...)
}

var anyAddress = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)

// scrub makes a text of an error of the library, which may quote the address or
// what the other side answered.
func (s *sender) scrub(err error) string {
	text := anyAddress.ReplaceAllStringFunc(err.Error(), func(address string) string {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			scheme, _, _ := strings.Cut(address, "://")
			return scheme + "://[redacted]"
		}
		return u.Scheme + "://" + u.Host + "/[redacted]"
	})
	return clip(s.secret.Replace(text), reasonRunes)
}

// delivery hands messages of one alert to the library, which takes no context and
// whose requests to some services have no end of their own. A delivery that takes
// too long is left to itself: it ends with its connection, and until then no other
// is begun, so there is never more than one.
type delivery struct {
	alert *Alert
	stuck chan struct{} // closed when the delivery that was left to itself ends
}

var errStuck = errors.New("the delivery before has not ended yet")

func (d *delivery) send(ctx context.Context, m message, timeout time.Duration) error {
	if d.stuck != nil {
		select {
		case <-d.stuck:
			d.stuck = nil
		default:
			return errStuck
		}
	}
	s, err := newSender(d.alert.URL)
	if err != nil {
		return err
	}
	answer, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			if r := recover(); r != nil {
				answer <- fmt.Errorf("shoutrrr's %s service went wrong", s.kind)
			}
		}()
		answer <- s.send(m)
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err := <-answer:
		<-ended
		return err
	case <-timer.C:
		d.stuck = ended
		return fmt.Errorf("no answer within %s", timeout)
	case <-ctx.Done():
		d.stuck = ended
		return errors.New("given up at the end of the process")
	}
}
