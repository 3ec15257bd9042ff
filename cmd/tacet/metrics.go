package main

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tacet/queue"
)

// meter is one figure that is read when Prometheus asks. Its labels are fixed:
// no address, domain, user or host ever becomes one.
type meter struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func() float64
}

// meters collects figures of the parts at the moment that they are asked for.
type meters []meter

// Describe implements prometheus.Collector.
func (m meters) Describe(out chan<- *prometheus.Desc) {
	for _, one := range m {
		out <- one.desc
	}
}

// Collect implements prometheus.Collector.
func (m meters) Collect(out chan<- prometheus.Metric) {
	for _, one := range m {
		out <- prometheus.MustNewConstMetric(one.desc, one.kind, one.read())
	}
}

func (m *meters) add(kind prometheus.ValueType, name, help string, labels prometheus.Labels, read func() float64) {
	*m = append(*m, meter{prometheus.NewDesc("tacet_"+name, help, nil, labels), kind, read})
}

// load is how a counter of one of the parts is read.
func load(counter interface{ Load() int64 }) func() float64 {
	return func() float64 { return float64(counter.Load()) }
}

// metricsHandler answers with all figures as Prometheus reads them.
func (d *daemon) metricsHandler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		d.meters(),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

func (d *daemon) meters() meters {
	var m meters
	count, gauge := prometheus.CounterValue, prometheus.GaugeValue
	stats := &d.relay.Stats
	m.add(count, "messages_accepted_total", "Messages taken from clients.", nil, load(&stats.Accepted))
	m.add(count, "octets_accepted_total", "Content of the messages taken.", nil, load(&stats.Octets))
	m.add(count, "reports_total", "Delivery reports made.", nil, load(&stats.Reports))
	const recipients, recipientsHelp = "recipients_total", "Recipients by how their delivery ended."
	m.add(count, recipients, recipientsHelp, prometheus.Labels{"outcome": "delivered"}, load(&stats.Delivered))
	m.add(count, recipients, recipientsHelp, prometheus.Labels{"outcome": "failed"}, load(&stats.Failed))
	m.add(count, recipients, recipientsHelp, prometheus.Labels{"outcome": "expired"}, load(&stats.Expired))
	m.add(count, "deferrals_total", "Attempts after which another is owed, by recipient.", nil, load(&stats.Deferred))
	m.add(count, "refusals_total", "Mail, logins and handshakes refused to clients.", nil, load(&stats.Rejected))
	m.add(count, "log_records_lost_total", "Records that the relay log could not take.", nil, load(&stats.Unlogged))
	m.add(count, "unsettled_total", "Attempts whose outcome the queue could not record.", nil, load(&stats.Unsettled))

	queued := func(read func(queue.Stats) int64) func() float64 {
		return func() float64 { return float64(read(d.store.Stats())) }
	}
	m.add(gauge, "queue_messages", "Messages in the queue.", nil, queued(func(s queue.Stats) int64 { return int64(s.Messages) }))
	m.add(gauge, "queue_octets", "Content in the queue.", nil, queued(func(s queue.Stats) int64 { return s.Bytes }))
	m.add(gauge, "queue_held_messages", "Messages on hold.", nil, queued(func(s queue.Stats) int64 { return int64(s.Held) }))
	m.add(gauge, "queue_damaged_messages", "Messages set aside because they are damaged.", nil, queued(func(s queue.Stats) int64 { return int64(s.Damaged) }))
	m.add(gauge, "queue_waiting", "Groups of recipients that wait for an attempt.", nil, queued(func(s queue.Stats) int64 { return int64(s.Waiting) }))
	m.add(gauge, "deliveries_active", "Deliveries under way.", nil, queued(func(s queue.Stats) int64 { return int64(s.Active) }))
	m.add(gauge, "queue_destinations", "Destinations with something waiting.", nil, queued(func(s queue.Stats) int64 { return int64(s.Destinations) }))
	m.add(gauge, "healthy", "1 if the relay does its work.", nil, func() float64 {
		if d.health().OK {
			return 1
		}
		return 0
	})
	m.add(gauge, "build_info", "The version that runs.", prometheus.Labels{
		"version": buildVersion().Version, "go": runtime.Version(),
	}, func() float64 { return 1 })
	return m
}
