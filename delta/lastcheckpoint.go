package delta

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the checksum that the protocol prescribes; it guards against torn writes, not attackers
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// lastCheckpoint reads the version that _last_checkpoint names, -1 when it does not say (PROTOCOL.md, "Last Checkpoint File
// Schema"). It is a hint: one that can't be understood, or whose checksum is another one, is none.
func lastCheckpoint(ctx context.Context, store LogStore) (int64, error) {
	data, err := readHint(ctx, store, lastCheckpointName)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("reading %s: %w", lastCheckpointName, err)
	}
	var hint struct {
		Version  *int64  `json:"version"`
		Checksum *string `json:"checksum"`
	}
	if json.Unmarshal(data, &hint) != nil || hint.Version == nil {
		return -1, nil //nolint:nilerr // see above
	}
	if hint.Checksum != nil {
		if sum, err := jsonChecksum(data); err != nil || sum != *hint.Checksum {
			return -1, nil //nolint:nilerr // see above
		}
	}
	return *hint.Version, nil
}

// jsonChecksum is the MD5 of a JSON object's canonical form, in hex (PROTOCOL.md, "JSON checksum").
func jsonChecksum(data []byte) (string, error) {
	text, err := canonicalJSON(data)
	if err != nil {
		return "", err
	}
	sum := md5.Sum([]byte(text)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:]), nil
}

// canonicalJSON is the form over which the checksum is built: path=value pairs in byte order of their paths.
func canonicalJSON(data []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var pairs [][2]string
	if err := canonicalValue(d, "", 0, &pairs); err != nil {
		return "", err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("something follows the JSON object")
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			if p[0] == pairs[i-1][0] {
				return "", fmt.Errorf("the key %s is there twice", p[0])
			}
			b.WriteByte(',')
		}
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String(), nil
}

func canonicalValue(d *json.Decoder, path string, depth int, pairs *[][2]string) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if depth > maxNesting {
		return fmt.Errorf("values nest deeper than %d", maxNesting)
	}
	value := ""
	switch t := t.(type) {
	case json.Delim:
		for i := 0; d.More(); i++ {
			name := strconv.Itoa(i)
			if t == '{' {
				key, err := d.Token()
				if err != nil {
					return err
				}
				name = canonicalString(key.(string))
			}
			if path != "" {
				name = path + "+" + name
			}
			if err := canonicalValue(d, name, depth+1, pairs); err != nil {
				return err
			}
		}
		_, err := d.Token() // the closing one
		return err
	case string:
		value = canonicalString(t)
	case json.Number:
		value = t.String()
	case bool:
		value = strconv.FormatBool(t)
	default:
		value = "null"
	}
	if path != `"checksum"` {
		*pairs = append(*pairs, [2]string{path, value})
	}
	return nil
}

// canonicalString percent-encodes every octet but RFC 3986's unreserved ones (PROTOCOL.md, "How to URL encode keys and
// string values").
func canonicalString(s string) string {
	b := []byte{'"'}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(append(b, '"'))
}
