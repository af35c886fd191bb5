// Package postgrestest runs a real PostgreSQL server for tests: a private
// cluster in a temporary directory on a free port of the loopback interface,
// started on first use and gone when the test binary ends.
//
// A package's TestMain hands over to [Main], its tests call [Start] and then
// [Server.CreateDatabase]:
//
//	func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }
//
//	func TestX(t *testing.T) {
//		dsn := postgrestest.Start(t).CreateDatabase(t)
//
// Where no server is installed tests fail and say how to install one; they
// never skip. The package must never touch a server that it did not start.
package postgrestest
