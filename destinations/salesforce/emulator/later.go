package emulator

type classicJob struct{}

func (*classicJob) open() bool                    { return false }
func (*classicJob) listed(*Server) map[string]any { return nil }
func (s *Server) bulk1(c *call)                   { c.notFound() }
func (s *Server) soap(c *call)                    { c.notFound() }
func (s *Server) tooling(c *call, _ []string)     { c.notFound() }
func (s *Server) convertLead(c *call)             { c.notFound() }
