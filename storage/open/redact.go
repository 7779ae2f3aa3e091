package open

import "strings"

const redacted = "REDACTED"

// Redact returns the URI without what may be secret in it, for logs and errors: user info and the values behind "?" or
// "#" (signatures, keys). It does not need a valid URI, since a misspelled one is what gets printed most, and where it
// cannot tell it hides too much. Paths are returned as they are up to a "?".
func Redact(uri string) string {
	scheme, rest := split(uri)
	if scheme == "" {
		return cutQuery(uri, "?")
	}
	body := strings.TrimLeft(rest, "/")
	lead := uri[:len(uri)-len(body)] // the scheme as written, ":" and slashes
	at := strings.LastIndexByte(body, '@')
	plainFile := scheme == "file" && lead != uri[:len("file")]+"://" // no host, so every "@" is the path's
	if at < 0 || plainFile {
		return lead + cutQuery(body, "?#")
	}
	// Keys are pasted unencoded and may hold any of "/?#@", so the user info ends at the last "@". When a "?" comes
	// before that, it may be a part of the key or begin a query that has an "@".
	if q := strings.IndexAny(body, "?#"); q >= 0 && q < at {
		return lead + redacted
	}
	if user := body[:at]; !isContainer(scheme, user) {
		body = redacted + body[at:]
	}
	return lead + cutQuery(body, "?#")
}

// isContainer tells Azure's container@account, which is an address and no secret.
func isContainer(scheme, user string) bool {
	switch scheme {
	case "abfs", "abfss", "wasb", "wasbs", "az", "azure":
		return !strings.ContainsAny(user, ":/@")
	default:
		return false
	}
}

// cutQuery hides what follows the first of the separators.
func cutQuery(s, separators string) string {
	if i := strings.IndexAny(s, separators); i >= 0 && i+1 < len(s) {
		return s[:i+1] + redacted
	}
	return s
}
