//go:build synctests

package sim

// channelMutexes: the Kafka client is built with mutexes of channels, for which the clock of a bubble does not stand still.
const channelMutexes = true
