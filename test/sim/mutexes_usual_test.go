//go:build !synctests

package sim

const channelMutexes = false
