package strictyaml

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Bytes{
		"0": 0, "1": 1, "512B": 512, "1KiB": 1 << 10, "128MiB": 128 << 20, "128 MiB": 128 << 20, "1GiB": 1 << 30,
		"2TiB": 2 << 40, "64KB": 64_000, "10MB": 10_000_000, "1GB": 1e9, "1TB": 1e12, "3mib": 3 << 20,
		"9223372036854775807": math.MaxInt64, "8388607TiB": 8388607 << 40,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "MiB", "-1", "+1", "1.5GiB", "1K", "1M", "1G", "128Mi", "1 0", " 1", "1MiBB", "1e3", "1_000", "x",
		"9223372036854775808", "8388608TiB", "１",
	} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func TestBytesPrintsTheLargestExactUnit(t *testing.T) {
	t.Parallel()
	for b, want := range map[Bytes]string{
		0: "0B", 1: "1B", 1023: "1023B", 1 << 10: "1KiB", 1536: "1536B", 128 << 20: "128MiB", 64_000: "64KB", 1e9: "1GB",
		1_000_001: "1000001B", 1 << 40: "1TiB", math.MaxInt64: "9223372036854775807B", -1 << 20: "-1MiB",
	} {
		if got := b.String(); got != want {
			t.Errorf("%d: got %s, want %s", int64(b), got, want)
		}
		if b < 0 {
			continue
		}
		if back, err := ParseBytes(b.String()); err != nil || back != b {
			t.Errorf("%d: read back as %d, %v", int64(b), int64(back), err)
		}
	}
	if js, err := json.Marshal(Bytes(1 << 20)); err != nil || string(js) != `"1MiB"` {
		t.Errorf("JSON is %s, %v", js, err)
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	t.Parallel()
	const text = "hunter2"
	type holder struct {
		Password Secret
		Pointer  *Secret
		ByName   map[string]Secret
	}
	secret := Secret(text)
	h := holder{secret, &secret, map[string]Secret{"name": secret}}
	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%e", "%U", "%10s", "%.3s"} {
		shown[verb] = fmt.Sprintf(verb, secret)
		shown[verb+" in a struct"] = fmt.Sprintf(verb, h)
		shown[verb+" in a list"] = fmt.Sprintf(verb, []Secret{secret})
	}
	marshalled, err := json.Marshal(h)
	shown["JSON"] = fmt.Sprint(string(marshalled), err)
	marshalled, err = yaml.Marshal(h)
	shown["YAML"] = fmt.Sprint(string(marshalled), err)
	shown["print"] = fmt.Sprint(secret, h)
	for name, handler := range map[string]func(*strings.Builder) slog.Handler{
		"slog text": func(b *strings.Builder) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog JSON": func(b *strings.Builder) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b strings.Builder
		log := slog.New(handler(&b))
		log.Info("m", "password", secret, "holder", h, "list", []Secret{secret})
		log.WithGroup("g").Info("m", "password", secret)
		shown[name] = b.String()
	}
	for how, got := range shown {
		if strings.Contains(got, text) || strings.Contains(got, fmt.Sprintf("%x", text)) || strings.Contains(got, fmt.Sprintf("%X", text)) {
			t.Errorf("%s shows it: %s", how, got)
		}
		if !strings.Contains(got, redacted) {
			t.Errorf("%s does not show %s: %s", how, redacted, got)
		}
	}
	if secret.Reveal() != text || Secret("").String() != "" {
		t.Errorf("Reveal gives %q, an empty secret prints as %q", secret.Reveal(), Secret("").String())
	}
}

func TestEditDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"interval", "intervall", 1}, {"topic", "tpoic", 1},
		{"kitten", "sitting", 3}, {"ä", "a", 1}, {strings.Repeat("x", 65), "x", 65},
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("%q to %q: got %d, want %d", test.a, test.b, got, test.want)
		}
		if got := editDistance(test.b, test.a); got != test.want {
			t.Errorf("%q to %q: got %d, want %d", test.b, test.a, got, test.want)
		}
	}
}
