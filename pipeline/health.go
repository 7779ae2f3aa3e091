package pipeline

import (
	"time"

	"kafkadelta/checkpoint"
	"kafkadelta/source"
)

// sourceError judges an error that a poll has returned.
func (d *dispatcher) sourceError(topic string, id int32, err error) {
	if source.Doubts(err) {
		d.doubt(checkpoint.Partition{Topic: topic, ID: id}, err)
		return
	}
	final, judged := source.Judge(topic, id, err)
	d.Metrics.failed("source")
	if final && !(source.UnknownTopic(err) && d.topicSeen.Load()) { // of a topic that was there checkSource finds out more
		d.fail(judged)
		return
	}
	d.Metrics.setSourceDown(true)
	if text := err.Error(); text != d.saidOfSource || d.Now().Sub(d.saidAt) >= checkSourceInterval {
		d.saidOfSource, d.saidAt = text, d.Now()
		d.Log.Warn("Kafka does not answer as it should; the client tries again", "error", judged)
	}
}

// checkSource finds out whether Kafka answers again after it did not, since a quiet topic would not show it, and whether
// the topic is still the one that the table's offsets belong to: a topic that is gone or was made anew shows as errors too.
func (d *dispatcher) checkSource(now time.Time) {
	if !d.Metrics.sourceDown.Load() || d.checkingSource || now.Before(d.checkSourceAt) {
		return
	}
	d.checkingSource = true
	d.goDo(func() {
		err := d.pin(d.ctx, nil)
		d.tell(func() {
			d.checkingSource = false
			d.checkSourceAt = d.Now().Add(checkSourceInterval)
			switch {
			case err == nil:
				d.Metrics.setSourceDown(false)
			case final(err):
				d.fail(err)
			}
		})
	})
}
