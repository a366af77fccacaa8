package ccn

// LongMax bounds the lists that are written while they are read.
const LongMax = longMax

// Registered are the methods and paths that the mux of a server has.
func (s *Server) Registered() (out [][2]string) {
	for _, rt := range s.table {
		out = append(out, [2]string{rt.method, rt.path})
	}
	return out
}
