package main

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
	"tacet/relay/outbound"
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
		d.meters(), ruleHits{d},
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// label is one label with one value of a closed list.
func label(name, value string) prometheus.Labels { return prometheus.Labels{name: value} }

func (d *daemon) meters() meters {
	var m meters
	m.relay(&d.relay.Stats)
	m.queue(d.store)
	m.inbound(d.server.Stats())
	m.submission(d)
	m.outbound(d.client)
	m.primary(d)
	m.asked(d.ledger)
	m.add(prometheus.GaugeValue, "healthy", "1 if the relay does its work.", nil, func() float64 {
		if d.health().OK {
			return 1
		}
		return 0
	})
	m.add(prometheus.GaugeValue, "incidents_open", "Incidents that record dialogues now.", nil, func() float64 { return float64(len(d.incidents.List())) })
	m.add(prometheus.GaugeValue, "build_info", "The version that runs.", prometheus.Labels{
		"version": buildVersion().Version, "go": runtime.Version(),
	}, func() float64 { return 1 })
	return m
}

func (m *meters) relay(s *relay.Stats) {
	count := prometheus.CounterValue
	m.add(count, "messages_accepted_total", "Messages taken from clients.", nil, load(&s.Accepted))
	m.add(count, "octets_accepted_total", "Content of the messages taken.", nil, load(&s.Octets))
	m.add(count, "reports_total", "Delivery reports made.", nil, load(&s.Reports))
	const recipients, help = "recipients_total", "Recipients by how their delivery ended."
	m.add(count, recipients, help, label("outcome", "delivered"), load(&s.Delivered))
	m.add(count, recipients, help, label("outcome", "failed"), load(&s.Failed))
	m.add(count, recipients, help, label("outcome", "expired"), load(&s.Expired))
	m.add(count, "deferrals_total", "Attempts after which another is owed, by recipient.", nil, load(&s.Deferred))
	m.add(count, "refusals_total", "Mail, logins and handshakes refused to clients.", nil, load(&s.Rejected))
	m.add(count, "log_records_lost_total", "Records that the relay log could not take.", nil, load(&s.Unlogged))
	m.add(count, "checks_failed_total", "Content checks that could not do their work.", nil, load(&s.Unchecked))
	m.add(count, "unsettled_total", "Attempts whose outcome the queue could not record.", nil, load(&s.Unsettled))
	m.add(count, "delivery_panics_total", "Attempts that ended in a panic, which was contained.", nil, load(&s.Panics))
}

func (m *meters) queue(store queue.Admin) {
	gauge := func(name, help string, read func(queue.Stats) int64) {
		m.add(prometheus.GaugeValue, name, help, nil, func() float64 { return float64(read(store.Stats())) })
	}
	gauge("queue_messages", "Messages in the queue.", func(s queue.Stats) int64 { return int64(s.Messages) })
	gauge("queue_octets", "Content in the queue.", func(s queue.Stats) int64 { return s.Bytes })
	gauge("queue_held_messages", "Messages on hold.", func(s queue.Stats) int64 { return int64(s.Held) })
	gauge("queue_damaged_messages", "Messages set aside because they are damaged.", func(s queue.Stats) int64 { return int64(s.Damaged) })
	gauge("queue_waiting", "Groups of recipients that wait for an attempt.", func(s queue.Stats) int64 { return int64(s.Waiting) })
	gauge("queue_destinations", "Destinations with something waiting.", func(s queue.Stats) int64 { return int64(s.Destinations) })
	gauge("deliveries_active", "Deliveries under way.", func(s queue.Stats) int64 { return int64(s.Active) })
}

func (m *meters) inbound(s *inbound.Stats) {
	count := prometheus.CounterValue
	m.add(prometheus.GaugeValue, "connections", "Connections of clients, open now.", nil, load(&s.Open))
	m.add(count, "connections_total", "Connections of clients.", nil, load(&s.Connections))
	m.add(count, "connections_turned_away_total", "Connections refused for a limit.", nil, load(&s.TurnedAway))
	m.add(count, "accept_failures_total", "Connections that could not be accepted.", nil, load(&s.AcceptFailed))
	m.add(count, "logins_total", "Logins of clients.", label("outcome", "ok"), load(&s.AuthOK))
	m.add(count, "logins_total", "Logins of clients.", label("outcome", "failed"), load(&s.AuthFailed))
	m.add(count, "handshakes_total", "TLS handshakes with clients.", label("outcome", "ok"), load(&s.HandshakesOK))
	m.add(count, "handshakes_total", "TLS handshakes with clients.", label("outcome", "failed"), load(&s.HandshakesFailed))
	const ended, help = "sessions_ended_total", "Sessions that the relay ended, by cause."
	m.add(count, ended, help, label("cause", "errors"), load(&s.ErrorBudget))
	m.add(count, ended, help, label("cause", "foreign"), load(&s.Foreign))
	m.add(count, ended, help, label("cause", "early"), load(&s.Early))
	m.add(count, ended, help, label("cause", "idle"), load(&s.TimedOut))
	m.add(count, ended, help, label("cause", "stalled"), load(&s.Stalled))
	m.add(count, ended, help, label("cause", "panic"), load(&s.Panics))
	m.add(count, "bad_commands_total", "Commands that were wrong.", nil, load(&s.BadCommands))
	m.add(count, "bad_contents_total", "Contents with a bare CR, a bare LF or a NUL.", nil, load(&s.BadContent))
}

// submission counts what users were refused.
func (m *meters) submission(d *daemon) {
	if d.quota == nil {
		return
	}
	const refused, help = "submission_refusals_total", "What users were refused: transactions, recipients and messages, by rule."
	count := prometheus.CounterValue
	m.add(count, refused, help, label("rule", "sender"), load(&d.strangers))
	m.add(count, refused, help, label("rule", "header_from"), load(&d.authors))
	for _, limit := range relay.AllLimits() {
		m.add(count, refused, help, label("rule", limit.String()), load(&d.quota.Stats.Refused[limit]))
	}
	m.add(prometheus.GaugeValue, "remembered_recipients", "Recipients that are remembered, as hashes, for users' limits of new ones.", nil, load(&d.quota.Stats.Remembered))
}

func (m *meters) outbound(client *outbound.Client) {
	counter := func(name, help string, labels prometheus.Labels, read func(outbound.Stats) int64) {
		m.add(prometheus.CounterValue, name, help, labels, func() float64 { return float64(read(client.Stats())) })
	}
	counter("next_hop_connections_total", "Connections to next hops.", nil, func(s outbound.Stats) int64 { return s.Opened })
	counter("next_hop_connections_reused_total", "Attempts over a kept connection.", nil, func(s outbound.Stats) int64 { return s.Reused })
	counter("next_hop_sessions_total", "Sessions with next hops.", label("tls", "yes"), func(s outbound.Stats) int64 { return s.TLS })
	counter("next_hop_sessions_total", "Sessions with next hops.", label("tls", "no"), func(s outbound.Stats) int64 { return s.Plain })
	for cause := queue.CauseNone + 1; int(cause) < len(client.Stats().Causes); cause++ {
		counter("attempts_ended_total", "Recipients left without a deciding answer, by cause.",
			label("cause", relay.Reason(queue.Reply{Cause: cause}).String()),
			func(s outbound.Stats) int64 { return s.Causes[cause] })
	}
}

// ruleHits counts the matches of each local rule. Their label is the rule's name, of the config.
type ruleHits struct{ d *daemon }

// Describe implements prometheus.Collector: what rules there are changes with the config.
func (r ruleHits) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r ruleHits) Collect(out chan<- prometheus.Metric) {
	for name, hits := range r.d.rules.Load().Hits {
		desc := prometheus.NewDesc("tacet_rule_matches_total", "messages that met a local rule, since the config was read", nil, prometheus.Labels{"rule": name})
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(hits))
	}
}
