package gcs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"unicode/utf8"

	contract "kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// List implements storage.Store. The service begins at `after` (startOffset), so that what is new in a long log costs one
// request, and each page is given out as it comes.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[contract.ObjectInfo, error] {
	return func(yield func(contract.ObjectInfo, error) bool) {
		folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if folder != "" && (folder == "./" || !fs.ValidPath(strings.TrimSuffix(folder, "/"))) {
			yield(contract.ObjectInfo{}, fmt.Errorf("%s %q: invalid prefix: %w", remote.List, prefix, fs.ErrInvalid))
			return
		}
		if after > prefix && !strings.HasPrefix(after, prefix) {
			return // after every name with the prefix
		}
		l := &listing{store: s, prefix: prefix, after: after}
		for more := true; more; {
			var err error
			if more, err = l.next(ctx); err == nil {
				err = l.give(ctx, yield)
			}
			if err != nil {
				if !errors.Is(err, errStopped) {
					yield(contract.ObjectInfo{}, err)
				}
				return
			}
		}
	}
}

var errStopped = errors.New("the consumer stopped")

// listing is one run through the pages of a listing.
type listing struct {
	store         *Store
	prefix, after string
	token         string // of the next page
	last          string // that was given out
	page          []attributes
}

// next reads a page, and tells whether there is another one.
func (l *listing) next(ctx context.Context) (more bool, err error) {
	s := l.store
	start := ""
	if l.after > l.prefix {
		start = s.folder + valid(l.after)
	}
	err = s.do(ctx, remote.List, l.prefix, false, func(ctx context.Context) error {
		p, err := s.api.list(ctx, s.folder+valid(l.prefix), start, l.token, s.page)
		if err == nil {
			l.page, l.token = p.Items, p.Next
		}
		return err
	})
	return l.token != "", err
}

// give hands out a page. Order is checked, not believed: who follows a log would skip a version that comes late.
func (l *listing) give(ctx context.Context, yield func(contract.ObjectInfo, error) bool) error {
	for _, object := range l.page {
		name, ok := strings.CutPrefix(object.Name, l.store.folder)
		if !ok || !strings.HasPrefix(name, l.prefix) || name <= l.after || strings.HasSuffix(name, "/") {
			continue // the last: a marker that the console and Hadoop's connector leave for a folder
		}
		if name <= l.last {
			return fmt.Errorf("%s %s: %q was listed after %q: the service lists in an order that is not known", remote.List, l.store.url, name, l.last)
		}
		l.last = name
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s %s: %w", remote.List, l.store.url, err)
		}
		if !yield(contract.ObjectInfo{Name: name, Size: object.Size, ModTime: object.Updated}, nil) {
			return errStopped
		}
	}
	return nil
}

// valid is the part of a prefix that can be sent: all of it unless it ends within a character.
func valid(s string) string {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) {
			return s[:i]
		}
	}
	return s
}
