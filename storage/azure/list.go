package azure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"kafkadelta/storage"
	"kafkadelta/storage/remote"
)

// List implements storage.Store. The service starts at `after` (startFrom of List Blobs, since version 2026-02-06), so that
// what is new in a long log costs one request. An account with hierarchical namespace lists each folder's content right after
// the folder, which is not the order of full names: there everything is read before the first object is given out. Without it
// each page is given out as it comes.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.ObjectInfo, error] {
	return func(yield func(storage.ObjectInfo, error) bool) {
		folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
		if folder != "" && (folder == "./" || !fs.ValidPath(strings.TrimSuffix(folder, "/"))) {
			yield(storage.ObjectInfo{}, fmt.Errorf("%s %q: invalid prefix: %w", remote.List, prefix, fs.ErrInvalid))
			return
		}
		if after > prefix && !strings.HasPrefix(after, prefix) {
			return // after every name with the prefix
		}
		l := &listing{store: s, prefix: prefix, after: after}
		for {
			more, err := l.next(ctx)
			if err == nil && (!more || !l.hierarchical) {
				err = l.give(ctx, yield)
			}
			switch {
			case errors.Is(err, errStopped):
				return
			case err != nil:
				yield(storage.ObjectInfo{}, err)
				return
			case !more:
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
	last          string // that was given out
	marker        *string
	hierarchical  bool // seen from the answers
	held          []storage.ObjectInfo
}

// next reads a page, and tells whether there is another one.
func (l *listing) next(ctx context.Context) (more bool, err error) {
	prefix := l.store.folder + valid(l.prefix)
	o := container.ListBlobsFlatOptions{
		Include: container.ListBlobsInclude{Metadata: true}, Marker: l.marker, MaxResults: l.store.page, Prefix: &prefix,
	}
	if from := startFrom(l.prefix, l.after); from != "" {
		from = l.store.folder + from
		o.StartFrom = &from
	}
	var page container.ListBlobsFlatResponse
	err = l.store.do(ctx, remote.List, l.prefix, false, func(ctx context.Context) (err error) {
		page, err = l.store.container.NewListBlobsFlatPager(&o).NextPage(ctx)
		return err
	})
	if failed, ok := errors.AsType[*remote.Error](err); ok && (failed.Outcome == remote.NotFound || failed.Code == "ResourceTypeMismatch") {
		return false, nil // a folder of the prefix is missing or a file; a missing container has a code of its own
	}
	if err != nil {
		return false, err
	}
	if page.Segment != nil {
		for _, item := range page.Segment.BlobItems {
			l.take(item)
		}
	}
	l.marker = page.NextMarker
	return l.marker != nil && *l.marker != "", nil
}

func (l *listing) take(item *container.BlobItem) {
	p := item.Properties
	if item.Name == nil || p == nil {
		return
	}
	l.hierarchical = l.hierarchical || p.ResourceType != nil
	name, ok := strings.CutPrefix(*item.Name, l.store.folder)
	if !ok || !strings.HasPrefix(name, l.prefix) || name <= l.after || isFolder(item.Metadata) || p.ResourceType != nil && *p.ResourceType == "directory" {
		return
	}
	info := storage.ObjectInfo{Name: name}
	if p.ContentLength != nil {
		info.Size = *p.ContentLength
	}
	if p.LastModified != nil {
		info.ModTime = *p.LastModified
	}
	l.held = append(l.held, info)
}

// give hands out what is held. Order is checked, not believed: who follows a log would skip a version that comes late.
func (l *listing) give(ctx context.Context, yield func(storage.ObjectInfo, error) bool) error {
	slices.SortFunc(l.held, func(a, b storage.ObjectInfo) int { return strings.Compare(a.Name, b.Name) })
	for _, info := range l.held {
		if info.Name <= l.last {
			return fmt.Errorf("%s %s: %q was listed after %q: the service lists in an order that is not known", remote.List, l.store.url, info.Name, l.last)
		}
		l.last = info.Name
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s %s: %w", remote.List, l.store.url, err)
		}
		if !yield(info, nil) {
			return errStopped
		}
	}
	l.held = l.held[:0]
	return nil
}

// startFrom is where the service may begin a listing, "" for at the prefix: at `after`, or before it where an account with
// hierarchical namespace would leave out what sorts behind `after`. There "a/x" comes before "a-b", since folders compare by
// their own names, so the part from the first character below '/' on is not told.
func startFrom(prefix, after string) string {
	if !strings.HasPrefix(after, prefix) {
		return ""
	}
	end := len(valid(after))
	for i := len(prefix); i < end; i++ {
		if after[i] < '/' {
			end = i
		}
	}
	from := strings.TrimRight(after[:max(end, len(prefix))], "/")
	if len(from) <= len(prefix) {
		return ""
	}
	return from
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
