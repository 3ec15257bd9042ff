package main

// array is a table of the file that may occur many times.
type array struct {
	name  string         // "delivery.route"
	after string         // the section that it follows in the manual
	grow  func() []key   // makes one more element and gives its keys
	all   func() [][]key // of the elements there are
	blank []key          // of any element, for their names
}

// arrays binds every table that may occur many times to its slice of c.
func (c *Config) arrays() []array {
	return []array{
		arrayOf(listenerTables, "", &c.Listeners, newListener, (*Listener).keys),
		arrayOf(routeTables, "delivery.timeouts", &c.Delivery.Routes, func() RouteConfig { return RouteConfig{} }, (*RouteConfig).keys),
		arrayOf(dkimTables, "limits", &c.DKIM, func() DKIMConfig { return DKIMConfig{} }, (*DKIMConfig).keys),
		arrayOf(milterTables, "limits", &c.Milters, newMilter, (*MilterConfig).keys),
		arrayOf(hashListTables, "clamd", &c.HashLists, newHashList, (*HashListConfig).keys),
		arrayOf(ruleTables, "limits", &c.Rules, func() RuleConfig { return RuleConfig{} }, (*RuleConfig).keys),
	}
}

func arrayOf[T any](name, after string, elements *[]T, fresh func() T, keys func(*T) []key) array {
	return array{
		name: name, after: after, blank: keys(new(fresh())),
		grow: func() []key {
			*elements = append(*elements, fresh())
			return keys(&(*elements)[len(*elements)-1])
		},
		all: func() (all [][]key) {
			for i := range *elements {
				all = append(all, keys(&(*elements)[i]))
			}
			return all
		},
	}
}
