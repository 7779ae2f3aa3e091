package pipeline

import (
	"context"
	"maps"
	"time"

	"kafkadelta/checkpoint"
)

// reportTimeout bounds one report of offsets to Kafka. While a group joins, the client holds a report back.
const reportTimeout = 5 * time.Second

// positions are offsets that the table has taken, for the group to know.
type positions = map[checkpoint.Partition]checkpoint.Position

// startReporter starts the goroutine that tells Kafka what was committed. The newest offsets count, so that a group that is slow
// to answer holds up no commit.
func (d *dispatcher) startReporter() {
	d.goDo(func() {
		for next := range d.reports {
			d.reportNow(next)
		}
	})
}

// report hands offsets to the reporter, on top of those that it has not begun with. Of partitions that are being given away they
// are told at once, before the next owner tells later ones. The committer alone calls it.
func (d *dispatcher) report(next positions) {
	select {
	case before := <-d.reports:
		maps.Copy(before, next)
		next = before
	default:
	}
	if d.revoking.Load() > 0 {
		d.reportNow(next)
		return
	}
	d.reports <- next // there is room: nobody else sends
}

func (d *dispatcher) reportNow(next positions) {
	ctx, cancel := context.WithTimeout(d.parting, reportTimeout)
	defer cancel()
	d.Log.Debug("report begins", "partitions", len(next))
	if err := d.source.Report(ctx, next); err != nil {
		d.Metrics.failed("report")
		d.Log.Debug("offsets were not reported to Kafka; that only concerns tools that watch the group's lag", "error", err)
	}
	d.Log.Debug("report ends")
}
