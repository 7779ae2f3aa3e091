package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// kept is what files hold, read again whenever it is asked for. While they can't be read or don't make sense, as in the
// middle of being replaced, the last good value serves: what it opens, the broker decides.
type kept[T any] struct {
	read func() (T, error)
	warn func(error)

	mu   sync.Mutex
	last T
	had  bool
}

func (k *kept[T]) get() (T, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, err := k.read()
	switch {
	case err == nil:
		k.last, k.had = v, true
	case k.had:
		k.warn(err)
	default:
		return v, err
	}
	return k.last, nil
}

// password reads the secret that the settings name.
func (s SASLConfig) password() (string, error) {
	if s.PasswordEnv != "" {
		v, ok := os.LookupEnv(s.PasswordEnv) //nolint:forbidigo // the configuration holds the name alone, so that the secret stays here
		if !ok || v == "" {
			return "", errors.New("source.sasl.password_env names a variable that is not set, or empty: " + passwordEnvRemedy)
		}
		return v, nil
	}
	return secretFile("password_file", s.PasswordFile)
}

// secretFile reads a file with one secret. Its path is in no error: it may be the secret itself by mistake.
func secretFile(key, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading source.sasl.%s, which must be the path of a file: %w", key, withoutPath(err))
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("reading source.sasl.%s: the file is empty", key)
	}
	return secret, nil
}

func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
