package remote

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"testing"
)

func TestPutIfAbsent(t *testing.T) {
	const own = "own id"
	for _, tc := range []struct {
		name  string
		codes []int
		found string
		look  error
		is    error // nil: success
		not   error
		heads int
	}{
		{name: "done", codes: []int{201}},
		{name: "taken by another", codes: []int{409}, is: fs.ErrExist},
		{name: "taken by the try whose answer was lost", codes: []int{0, 409}, found: own, heads: 1},
		{name: "taken by the try that the server called failed", codes: []int{500, 412}, found: own, heads: 1},
		{name: "taken by another while the answer was lost", codes: []int{0, 409}, found: "other", is: fs.ErrExist, heads: 1},
		{name: "taken by an object without an id", codes: []int{0, 409}, is: fs.ErrExist, heads: 1},
		{name: "gone again", codes: []int{0, 409}, look: status(404), is: errUnknown, not: fs.ErrNotExist, heads: 1},
		{name: "reading is forbidden", codes: []int{0, 409}, look: status(403), is: errUnknown, not: fs.ErrPermission, heads: 1},
		{name: "forbidden after a lost answer", codes: []int{0, 403}, is: status(403), not: fs.ErrPermission},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, server, _ := served(t, nil, tc.codes...)
			heads := 0
			err := c.PutIfAbsent(t.Context(), "x", own, func(ctx context.Context) error { return send(ctx, c, server.URL) },
				func(context.Context) (string, error) { heads++; return tc.found, tc.look })
			switch {
			case heads != tc.heads:
				t.Errorf("asked for the object %d times, want %d", heads, tc.heads)
			case tc.is == nil && err != nil:
				t.Errorf("got %v, want success", err)
			case errors.Is(tc.is, errUnknown):
				if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, tc.not) || !strings.Contains(err.Error(), "may have been carried out") {
					t.Errorf("got %v, want one that says that nothing is known", err)
				}
			case !errors.Is(err, tc.is) || tc.not != nil && errors.Is(err, tc.not):
				t.Errorf("got %v, want %v", err, tc.is)
			}
		})
	}
}

var errUnknown = errors.New("unknown")

func TestForCredentials(t *testing.T) {
	c, server, seen := served(t, nil, 200)
	_, err := c.Do(t.Context(), Operation{Name: Put, Object: "x"}, func(ctx context.Context) error {
		if err := send(ForCredentials(ctx), c, server.URL); err != nil {
			return err
		}
		return send(ctx, c, server.URL)
	})
	if got, want := strings.Join(*seen, ", "), "credentials ok, put ok"; err != nil || got != want {
		t.Errorf("observed %q, %v; want %q", got, err, want)
	}
}

func send(ctx context.Context, c *Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return status(response.StatusCode)
	}
	return nil
}
