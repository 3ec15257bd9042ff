package main_test

import "testing"

func (p *peers) backlog(t *testing.T) {}
