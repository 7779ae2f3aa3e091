package pipeline

import "runtime"

// DefaultMemory is what a pipeline holds where nothing else is said, in bytes.
const DefaultMemory = 512 << 20

// Of the memory, an eighth each is for what the client has fetched, decompressed and as records; for messages that wait to be decoded (maxInFlight), which a poll may
// exceed by what was fetched; and for what is encoded and waits for the store. A quarter is for the open data files of all lanes, with the rows that
// are collected for them. Of what there is when the pipeline begins, a sixteenth is for parts of files that are sent to a cloud, and an eighth for dead letters that wait for their topic.
// The rest is for what has no bound of its own: batches, single messages that are larger than all that, and garbage.
const (
	fetchedPart = 8
	filesPart   = 4
	uploadsPart = 8
	sentPart    = 16
	lettersPart = 8
)

func (o Options) memory() int64 {
	if o.Memory != nil {
		return o.Memory()
	}
	return DefaultMemory
}

// part is what this pipeline has of something that is `all` by default: less where it has less memory, but not less than least.
func (o Options) part(all, least int) int {
	return max(int(min(int64(all)*(o.memory()>>10)/(DefaultMemory>>10), int64(all))), least)
}

// laneMemory is the least of a pipeline's memory that a lane is begun for: whatever the limit, each keeps 8 MiB for open files, a batch with its rows, and an encoder.
const laneMemory = 32 << 20

// laneCount is how many lanes a pipeline begins with, of so many that share the cores: by default one for each core, but no more than there is memory for. A container
// may have a limit of memory and none of cores.
func (c Config) laneCount(share int, memory int64) int {
	if c.Lanes > 0 {
		return c.Lanes
	}
	return max(min(min(runtime.GOMAXPROCS(0), maxLanes)/max(share, 1), int(memory/laneMemory)), 1)
}

// A lane takes largeGrowth times the size of a message that is larger than a batch: decoded, in the page that is collected, and in the one that is written. With
// each flush the size that counts becomes less by one of largestFades parts. Partitions on tooWide times as many lanes as there is memory for are flushed at once, and
// then spread anew; on fewer they stay for the epoch, or messages of many sizes would have it flushed again and again.
const (
	largeGrowth  = 6
	largestFades = 8
	tooWide      = 2
)

// width is how many lanes partitions may be spread over, for messages as large as those of late: what lanes take for them at a time is a quarter of the memory.
func (d *dispatcher) width() int {
	return max(min(int(d.memory()/filesPart/largeGrowth/int64(max(d.largest, 1))), len(d.lanes)), 1)
}

// WriterMemory is what the open files of one lane may take in each of so many tables, of a pipeline that began as one of `share` and has so
// much memory: both as in Options.
func (c Config) WriterMemory(share int, memory func() int64, tables int) func() int64 {
	o := Options{Memory: memory}
	writers := int64(c.laneCount(share, o.memory()) * tables)
	return func() int64 { return o.memory() / filesPart / writers }
}

// Parts of 8 MiB are the largest that pay. So many are sent at a time for each lane, and four where there is one lane.
const (
	largestPart = 8 << 20
	leastPart   = 256 << 10
	laneParts   = 2
)

// Parts are those in which the store of a pipeline gets large files: the size of one, and how many bytes of them are to be sent at a time. Share and memory
// are as in Options, when the pipeline begins.
func (c Config) Parts(share int, memory func() int64) (size, sent int) {
	all := Options{Memory: memory}.memory()
	sent = int(all / sentPart)
	return max(min(sent/(laneParts*max(c.laneCount(share, all), 2)), largestPart), leastPart), sent
}

// hold has the client fetch no more at once than there is memory for. Pipelines come and go, and so do partitions.
func (d *dispatcher) hold() { d.source.Hold(d.memory()/fetchedPart, len(d.parts)) }
