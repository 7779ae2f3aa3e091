package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// PutIfAbsent sends a conditional put that carries an id of its own, in the object's metadata. When the name is taken after a
// try whose answer was lost, the taker may be that try: idOf asks once for the id of the object that is there, and the own
// one is success. Where that cannot be learned, the error is Unknown: neither fs.ErrExist nor another of the contract's.
func (c *Client) PutIfAbsent(ctx context.Context, object, id string, put func(context.Context) error, idOf func(context.Context) (string, error)) error {
	doubtful, err := c.Do(ctx, Operation{Name: PutIfAbsent, Object: object, Writes: true}, put)
	if !doubtful || !errors.Is(err, fs.ErrExist) {
		return err
	}
	var found string
	_, lookErr := c.Do(ctx, Operation{Name: Head, Object: object}, func(ctx context.Context) (err error) {
		found, err = idOf(ctx)
		return err
	})
	switch {
	case lookErr == nil && found == id:
		return nil
	case lookErr == nil:
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s %s: it may have been carried out: %w", PutIfAbsent, object, ctx.Err())
	default:
		return fmt.Errorf("%s %s: it may have been carried out: the name is taken, and whose object it is could not be asked: %s", PutIfAbsent, object, lookErr.Error())
	}
}
