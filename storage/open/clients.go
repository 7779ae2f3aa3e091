package open

import (
	"sync"

	"kafkadelta/storage"
)

// Clients are those of the buckets and containers that stores are in, so that many stores have their connections and credentials in common. The
// zero value has none yet. It is for stores that are opened with the same settings, and holds what it has made for good.
type Clients struct {
	mu   sync.Mutex
	made map[string]below
}

// below is a store that opens those in its folders.
type below interface {
	Below(folder string) storage.Store
}

// in returns the store in a folder of a bucket, whose own is made where it is not known yet.
func (c *Clients) in(bucket, folder string, begin func() (below, error)) (storage.Store, error) {
	if c == nil {
		c = &Clients{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.made[bucket]
	if b == nil {
		var err error
		if b, err = begin(); err != nil {
			return nil, err
		}
		if c.made == nil {
			c.made = map[string]below{}
		}
		c.made[bucket] = b
	}
	return b.Below(folder), nil
}
