package alerts

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"coho/engine"
	"coho/models"
)

const run1 = "20260301T120000.000Z-0a0b0c0d"

// failedMessage is what is told of a run that failed.
func failedMessage() message {
	return compose("failed", "accounts", facts{Run: run1, Status: engine.Failed, At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Reason: `column "x" <y> & z is missing`}, told{}, "host1")
}

func send(t *testing.T, address string, m message) error {
	t.Helper()
	d := delivery{alert: &Alert{Name: "a", URL: models.Secret(address)}}
	return d.send(context.Background(), m, 20*time.Second)
}

func decoded(t *testing.T, body string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return m
}

func TestWebhookGetsJSON(t *testing.T) {
	r := newReceiver(t)
	for _, c := range []struct{ name, address, path, query string }{
		{"a web address", r.URL + "/hook/1?token=abc", "/hook/1", "token=abc"},
		{"one whose query has the library's words", r.URL + "/hook?method=x&template=y&title=z", "/hook", "method=x&template=y&title=z"},
		{"the library's own form", "generic+" + r.URL + "/hook?template=json", "/hook", ""},
		{"without a scheme of the target", strings.Replace(r.URL, "http://", "generic://", 1) + "/hook?template=json&disabletls=yes", "/hook", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := send(t, c.address, failedMessage()); err != nil {
				t.Fatal(err)
			}
			got := r.next(t)
			if got.path != c.path || got.query != c.query || got.contentType != "application/json" {
				t.Errorf("%+v", got)
			}
			body := decoded(t, got.body)
			for key, want := range map[string]string{
				"title": "coho: accounts failed", "event": "failed", "sync": "accounts", "status": "failed", "run": run1,
				"reason": `column "x" <y> & z is missing`, "command": "coho runs show " + run1,
			} {
				if body[key] != want {
					t.Errorf("%s is %v, want %q", key, body[key], want)
				}
			}
			if text := body["message"].(string); !strings.Contains(text, "is missing\nrun "+run1+" ended 2026-03-01 12:00 UTC on host1\nlook further: coho runs show "+run1) {
				t.Errorf("message: %s", text)
			}
		})
	}
}

func TestPlainWebhookGetsText(t *testing.T) {
	r := newReceiver(t)
	if err := send(t, "generic+"+r.URL+"/text", failedMessage()); err != nil {
		t.Fatal(err)
	}
	got := r.next(t)
	if got.contentType != "text/plain" || !strings.HasPrefix(got.body, "coho: accounts failed\ncolumn ") {
		t.Errorf("%+v", got)
	}
}

func TestSlackGetsItsOwnForm(t *testing.T) {
	r := newReceiver(t)
	r.redirected(t)
	r.answers(200, "ok")
	for _, address := range []string{
		"https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
		"slack://hook:T00000000-B00000000-XXXXXXXXXXXXXXXXXXXXXXXX@webhook",
	} {
		if err := send(t, address, failedMessage()); err != nil {
			t.Fatal(err)
		}
		got := r.next(t)
		if got.host != "hooks.slack.com" || got.path != "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX" {
			t.Errorf("%+v", got)
		}
		body := decoded(t, got.body)
		first := body["attachments"].([]any)[0].(map[string]any)
		if body["text"] != "coho: accounts failed" || first["text"] != `column "x" &lt;y&gt; &amp; z is missing` || first["color"] != "danger" {
			t.Errorf("%s", got.body)
		}
	}
	// Slack says no in a text.
	r.answers(403, "invalid_token")
	err := send(t, "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", failedMessage())
	if err == nil || !strings.Contains(err.Error(), "invalid_token") {
		t.Errorf("%v", err)
	}
}

func TestTeamsGetsCards(t *testing.T) {
	r := newReceiver(t)
	r.redirected(t)
	const connector = "https://acme.webhook.office.com/webhookb2/11111111-4444-4444-8444-cccccccccccc@22222222-4444-4444-8444-cccccccccccc/IncomingWebhook/33333301222222222233333333333344/44444444-4444-4444-8444-cccccccccccc/V2ESyij"
	for _, address := range []string{connector, "teams+" + connector} {
		if err := send(t, address, failedMessage()); err != nil {
			t.Fatal(err)
		}
		got := r.next(t)
		body := decoded(t, got.body)
		if got.host != "acme.webhook.office.com" || body["@type"] != "MessageCard" || body["title"] != "coho: accounts failed" || !strings.Contains(got.body, "coho runs show "+run1) {
			t.Errorf("%+v", got)
		}
	}
	r.answers(202, "")
	const path = "/workflows/0123456789abcdef/triggers/manual/paths/invoke"
	for _, address := range []string{
		"https://prod-12.westeurope.logic.azure.com:443" + path + "?api-version=2016-06-01&sig=aB-c_d%2F&sp=%2Ftriggers",
		"https://default0.1a.environment.api.powerplatform.com:443" + path + "?api-version=1&sig=aB-c_d%2F",
		"teams+" + r.URL + path + "?sig=aB-c_d%2F",
	} {
		if err := send(t, address, failedMessage()); err != nil {
			t.Fatal(err)
		}
		got := r.next(t)
		if got.path != path || !strings.Contains(got.query, "sig=aB-c_d%2F") || strings.Contains(got.query, "template") || got.contentType != "application/json" {
			t.Errorf("%+v", got)
		}
		attached := decoded(t, got.body)["attachments"].([]any)[0].(map[string]any)
		card := attached["content"].(map[string]any)
		blocks := card["body"].([]any)
		if attached["contentType"] != "application/vnd.microsoft.card.adaptive" || card["type"] != "AdaptiveCard" ||
			blocks[0].(map[string]any)["text"] != "coho: accounts failed" || blocks[3].(map[string]any)["text"] != "look further: coho runs show "+run1 {
			t.Errorf("%s", got.body)
		}
	}
}

func TestPagerDutyOpensAndResolvesOneIncident(t *testing.T) {
	r := newReceiver(t)
	r.redirected(t)
	r.answers(202, `{"status":"success"}`)
	const key = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		m                        message
		address                  string
		action, severity, reuses string
	}{
		{failedMessage(), "pagerduty://events.pagerduty.com/" + key, "trigger", "error", "coho/accounts"},
		{failedMessage(), "pagerduty:///" + key + "?severity=critical&dedup_key=prod", "trigger", "critical", "prod/coho/accounts"},
		{compose(Recovered, "accounts", facts{Run: run1, Status: engine.Succeeded}, told{Status: engine.Failed, Run: "r0"}, "h"), "pagerduty:///" + key, "resolve", "error", "coho/accounts"},
	} {
		if err := send(t, c.address, c.m); err != nil {
			t.Fatal(err)
		}
		got := r.next(t)
		body := decoded(t, got.body)
		payload := body["payload"].(map[string]any)
		details := body["details"].(map[string]any)
		if got.host != "events.pagerduty.com:443" || got.path != "/v2/enqueue" || body["routing_key"] != key || body["event_action"] != c.action ||
			body["dedup_key"] != c.reuses || payload["severity"] != c.severity || details["command"] != "coho runs show "+run1 || !strings.HasPrefix(payload["summary"].(string), c.m.title+": ") {
			t.Errorf("%+v", got)
		}
	}
}

func TestMailArrives(t *testing.T) {
	m := newMailbox(t)
	if err := send(t, "smtp://"+m.addr+"/?from=coho@acme.test&to=ops@acme.test,oncall@acme.test&starttls=no", failedMessage()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case mail := <-m.got:
			for _, want := range []string{"MAIL FROM:<coho@acme.test>", "Subject: coho: accounts failed", "is missing\n", "look further: coho runs show " + run1} {
				if !strings.Contains(mail, want) {
					t.Errorf("no %q in\n%s", want, mail)
				}
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no mail arrived")
		}
	}
}

func TestAddressesThatCannotBeUsed(t *testing.T) {
	for _, address := range []string{
		"", "oncall", "nowhere://verysecrettoken@host", "slack://verysecrettoken", "pagerduty:///verysecrettoken", "smtp://user:verysecrettoken@host/",
		"teams://verysecrettoken", "logger://verysecrettoken", "https://hooks.slack.com/services/verysecrettoken", "\x7f://verysecrettoken", "telegram://verysecrettoken@telegram", "generic://%zz",
	} {
		_, err := New(Options{Alerts: []Alert{{Name: "oncall", URL: models.Secret(address), Pos: "coho.toml:3:1"}}})
		if err == nil || !strings.HasPrefix(err.Error(), "coho.toml:3:1: alerts.oncall: url: ") {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "verysecrettoken") {
			t.Errorf("the error holds the address: %v", err)
		}
	}
}

// TestErrorsHoldNoSecret has deliveries fail in ways in which the library quotes
// the address.
func TestErrorsHoldNoSecret(t *testing.T) {
	r := newReceiver(t)
	r.answers(500, "go away")
	dead := "127.0.0.1:1" // nobody listens there
	for _, c := range []struct {
		address string
		hidden  []string
		shown   string
	}{
		{"http://" + dead + "/hooks/sesame-open?token=abracadabra", []string{"sesame", "abracadabra"}, dead},
		{"http://user:hunter2@" + dead + "/x", []string{"hunter2"}, dead},
		{r.URL + "/hooks/sesame-open?token=abracadabra", []string{"sesame", "abracadabra"}, "500"},
		{"smtp://user:hunter2@" + dead + "/?from=a@b.test&to=c@d.test", []string{"hunter2"}, ""},
		{"generic://" + dead + "/hooks/sesame-open?disabletls=yes&@Authorization=Bearer+abracadabra", []string{"sesame", "abracadabra"}, ""},
		{"gotify://" + dead + "/Asesame12345678?disabletls=yes", []string{"sesame12345678"}, ""},
	} {
		err := send(t, c.address, failedMessage())
		if err == nil {
			t.Errorf("%s: no error", c.address)
			continue
		}
		for _, secret := range c.hidden {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", c.address, err)
			}
		}
		if !strings.Contains(err.Error(), c.shown) {
			t.Errorf("%s: the error does not say where: %v", c.address, err)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{
		"https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", "smtp://u:p@h:25/?from=a@b&to=c@d", "generic+https://h/p?@A=b",
		"teams+https://h/p", "pagerduty:///0123456789abcdef0123456789abcdef", "discord://token@id", "matrix://u:p@h/?rooms=!a:b", "://", "a+b://c",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		s, err := newSender(models.Secret(address))
		if (s == nil) != (err != nil) {
			t.Errorf("%v, %v", s, err)
		}
	})
}
