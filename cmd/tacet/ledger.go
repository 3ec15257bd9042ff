package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tacet/relay/reputation"
)

// askedService is what was asked of one service about one kind of thing, over days.
type askedService struct {
	Service string                       `json:"service"`
	Kind    string                       `json:"kind"`
	Month   reputation.Counts            `json:"month"` // the last 30 days
	Year    reputation.Counts            `json:"year"`  // the last 365 days
	Days    map[string]reputation.Counts `json:"days"`
}

// askedServices sums a ledger up, the services in the order of its lines.
func askedServices(lines []reputation.Line, now time.Time) []askedService {
	services := []askedService{}
	place := make(map[[2]string]int)
	month := now.UTC().AddDate(0, 0, -29).Format(time.DateOnly)
	for _, line := range lines {
		line.Service = withoutKeys(line.Service)
		key := [2]string{line.Service, line.Kind}
		i, ok := place[key]
		if !ok {
			i = len(services)
			place[key] = i
			services = append(services, askedService{Service: line.Service, Kind: line.Kind, Days: make(map[string]reputation.Counts)})
		}
		s := &services[i]
		s.Days[line.Day] = line.Counts
		s.Year.Add(line.Counts)
		if line.Day >= month {
			s.Month.Add(line.Counts)
		}
	}
	return services
}

// printAsked writes the ledger for people, if anything stands in it.
func (p *policy) printAsked(out *lineWriter) {
	if len(p.Asked) == 0 {
		return
	}
	out.line("")
	out.line("Asked of services outside, in 30 days and in a year:")
	for _, s := range p.Asked {
		out.line("  %s, %s: %s; %s", s.Service, s.Kind, countsText(s.Month), countsText(s.Year))
	}
}

func countsText(c reputation.Counts) string {
	return fmt.Sprintf("%d asked, %d listed, %d failed", c.Asked, c.Listed, c.Failed)
}

// readLedger is what was asked of whom: of the running daemon, or without one as it stands in data_dir.
func (c *console) readLedger(ctx context.Context, config *Config) ([]reputation.Line, error) {
	daemon, err := dialControl(ctx, config.controlSocket())
	if errors.Is(err, errNoDaemon) {
		lines, err := reputation.ReadLedger(config.sealed(ledgerFile))
		if err != nil {
			return nil, fmt.Errorf("reading what was asked of services outside: %w", err)
		}
		return lines, nil
	}
	if err != nil {
		return nil, err
	}
	defer daemon.Close()
	resp, err := daemon.do(ctx, http.MethodGet, "asked")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var lines []reputation.Line
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxSealed)).Decode(&lines); err != nil {
		return nil, fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return lines, nil
}

// answerAsked tells what was asked of whom, in numbers.
func (c *control) answerAsked(w http.ResponseWriter, _ *http.Request) { answer(w, c.asked()) }

// asked adds the questions to services outside to the metrics.
func (m *meters) asked(l *reputation.Ledger) {
	for k, name := range reputation.Kinds() {
		count := func(outcome string, of func(reputation.Counts) int64) {
			labels := map[string]string{"kind": name, "outcome": outcome}
			m.add(prometheus.CounterValue, "outside_questions_total", "Questions to services outside, and what became of them.", labels,
				func() float64 { return float64(of(l.Totals(reputation.Kind(k)))) })
		}
		count("asked", func(c reputation.Counts) int64 { return c.Asked })
		count("listed", func(c reputation.Counts) int64 { return c.Listed })
		count("failed", func(c reputation.Counts) int64 { return c.Failed })
	}
}
