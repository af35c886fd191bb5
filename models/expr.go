package models

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/builtin"
	"github.com/expr-lang/expr/checker"
	"github.com/expr-lang/expr/compiler"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/optimizer"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// The bounds of an expression. The length also bounds the parser's recursion,
// which its own count of nodes does not.
const (
	maxExpressionBytes = 16 << 10
	maxExpressionNodes = 2000
	expressionBudget   = 1e6 // elements that one evaluation may create
)

// rowName is the variable through which a column of any name is read:
// row["odd name"]. It hides a column called row, which is row["row"].
const rowName = "row"

// columnPrefix sets the columns' variables apart from functions: a column may
// be called date, type or count, and date(date) must still be the function of
// the column. No identifier of the language holds a space.
const columnPrefix = "column "

// Expression is a compiled expression over a row's columns. It is immutable;
// an [Evaluator] runs it.
//
// The language is github.com/expr-lang/expr's. A column is a variable under
// its own name, or row["any name"]. Null is nil; bool, int, float64, string,
// time.Time (in UTC) and lists are themselves; a Decimal is an int where it is
// whole and fits, else the nearest float64 (map the column directly to keep
// every digit); times of day and JSON documents are strings, bytes are base64.
//
// Expressions are pure: now() is refused, and keys, values and toPairs go
// through a map in the order of its keys. Their size and the list elements
// that they create are bounded; the time of loops inside loops is not.
type Expression struct {
	program *vm.Program
	names   []string
	vars    []string
}

// Names returns the columns that the expression reads, in order of first use.
func (x *Expression) Names() []string { return slices.Clone(x.names) }

// CompileExpression compiles an expression without knowing the columns that
// there are, so a name that is no function and no variable of the expression
// is taken for a column. The error says what is wrong and where, in one line.
func CompileExpression(code string) (x *Expression, err error) {
	if strings.TrimSpace(code) == "" {
		return nil, errors.New("the expression is empty")
	}
	if len(code) > maxExpressionBytes {
		return nil, fmt.Errorf("the expression is longer than %d bytes", maxExpressionBytes)
	}
	if !utf8.ValidString(code) {
		return nil, errors.New("the expression is not valid UTF-8")
	}
	// The library is at fault if it panics, but the mistake that provokes it
	// is in one user's config and must not end the daemon.
	defer func() {
		if r := recover(); r != nil {
			x, err = nil, fmt.Errorf("the expression cannot be compiled: %v", r)
		}
	}()

	config := expressionConfig()
	tree, err := parser.ParseWithConfig(code, config)
	if err != nil {
		return nil, oneLine(err)
	}
	b := binder{}
	b.bind(&tree.Node)
	if b.err != nil {
		return nil, oneLine(b.err.Bind(tree.Source))
	}
	env := make(types.Map, len(b.names))
	vars := make([]string, len(b.names))
	for i, name := range b.names {
		vars[i] = columnPrefix + name
		// Columns are untyped, so that a nullable one can be compared with
		// nil and then used as what it is.
		env[vars[i]] = types.Any
	}
	config.WithEnv(env)
	if _, err := checker.Check(tree, config); err != nil {
		return nil, oneLine(err)
	}
	if err := optimizer.Optimize(&tree.Node, config); err != nil {
		var located *file.Error
		if errors.As(err, &located) {
			err = located.Bind(tree.Source)
		}
		return nil, oneLine(err)
	}
	program, err := compiler.Compile(tree, config)
	if err != nil {
		return nil, oneLine(err)
	}
	return &Expression{program: program, names: b.names, vars: vars}, nil
}

// impure says why a builtin is refused. The clock is all that this version of
// the library's builtins read; those that go through a map in its random
// order are replaced below.
var impure = map[string]string{
	"now": "now() reads the clock: an expression must give the same result for the same row",
}

func expressionConfig() *conf.Config {
	config := conf.CreateNew()
	config.MaxNodes = maxExpressionNodes
	for _, set := range []expr.Option{
		expr.DisableBuiltin("now"),
		replaceBuiltin("keys", func(k, _ any) any { return k }),
		replaceBuiltin("values", func(_, v any) any { return v }),
		replaceBuiltin("toPairs", func(k, v any) any { return []any{k, v} }),
	} {
		set(config)
	}
	for name := range config.Disabled {
		delete(config.Builtins, name)
	}
	return config
}

// replaceBuiltin puts an ordered walk over a map in the place of a builtin
// whose order is the map's own, different at every call.
func replaceBuiltin(name string, of func(k, v any) any) expr.Option {
	fn := func(args ...any) (any, error) {
		m := reflect.ValueOf(args[0])
		if m.Kind() != reflect.Map {
			return nil, fmt.Errorf("cannot use %T with %s", args[0], name)
		}
		keys := m.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int {
			return strings.Compare(fmt.Sprint(a.Interface()), fmt.Sprint(b.Interface()))
		})
		out := make([]any, len(keys))
		for i, k := range keys {
			out[i] = of(k.Interface(), m.MapIndex(k).Interface())
		}
		return out, nil
	}
	return func(c *conf.Config) {
		expr.DisableBuiltin(name)(c)
		expr.Function(name, fn, new(func(any) []any))(c)
	}
}

// binder walks a parsed expression, tells columns from the expression's own
// variables and functions, and renames them to the columns' variables.
type binder struct {
	names  []string
	locals []string
	err    *file.Error
}

func (b *binder) fail(n ast.Node, format string, args ...any) {
	if b.err == nil {
		b.err = &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
	}
}

func (b *binder) column(node *ast.Node, name string) {
	if !slices.Contains(b.names, name) {
		b.names = append(b.names, name)
	}
	ast.Patch(node, &ast.IdentifierNode{Value: columnPrefix + name})
}

func (b *binder) bind(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		switch {
		case slices.Contains(b.locals, n.Value):
		case n.Value == rowName:
			b.fail(n, `row is used as row["column"]`)
		case n.Value == "$env":
			b.fail(n, `$env is not available: use row["column"]`)
		default:
			b.column(node, n.Value)
		}
	case *ast.MemberNode:
		if id, ok := n.Node.(*ast.IdentifierNode); ok && id.Value == rowName && !slices.Contains(b.locals, rowName) {
			name, ok := n.Property.(*ast.StringNode)
			if !ok {
				b.fail(n, `row[...] takes a column's name in quotes`)
				return
			}
			b.column(node, name.Value)
			return
		}
		b.bind(&n.Node)
		b.bind(&n.Property)
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			if !b.function(id) {
				return
			}
		} else {
			b.bind(&n.Callee)
		}
		b.bindAll(n.Arguments)
	case *ast.VariableDeclaratorNode:
		b.bind(&n.Value)
		b.locals = append(b.locals, n.Name)
		b.bind(&n.Expr)
		b.locals = b.locals[:len(b.locals)-1]
	case *ast.UnaryNode:
		b.bind(&n.Node)
	case *ast.BinaryNode:
		b.bind(&n.Left)
		b.bind(&n.Right)
	case *ast.ChainNode:
		b.bind(&n.Node)
	case *ast.SliceNode:
		b.bind(&n.Node)
		if n.From != nil {
			b.bind(&n.From)
		}
		if n.To != nil {
			b.bind(&n.To)
		}
	case *ast.BuiltinNode:
		b.bindAll(n.Arguments)
	case *ast.PredicateNode:
		b.bind(&n.Node)
	case *ast.SequenceNode:
		b.bindAll(n.Nodes)
	case *ast.ConditionalNode:
		b.bind(&n.Cond)
		b.bind(&n.Exp1)
		b.bind(&n.Exp2)
	case *ast.ArrayNode:
		b.bindAll(n.Nodes)
	case *ast.MapNode:
		b.bindAll(n.Pairs)
	case *ast.PairNode:
		b.bind(&n.Key)
		b.bind(&n.Value)
	}
}

func (b *binder) bindAll(nodes []ast.Node) {
	for i := range nodes {
		b.bind(&nodes[i])
	}
}

// function reports whether id may be called.
func (b *binder) function(id *ast.IdentifierNode) bool {
	if reason, ok := impure[id.Value]; ok {
		b.fail(id, "%s", reason)
		return false
	}
	if slices.Contains(b.locals, id.Value) {
		return true
	}
	names := builtin.Names
	if !slices.Contains(names, id.Value) {
		if near := Nearest(id.Value, names); near != "" {
			b.fail(id, "unknown function %s (nearest: %s)", id.Value, near)
		} else {
			b.fail(id, "unknown function %s", id.Value)
		}
		return false
	}
	return true
}

// oneLine drops the library's drawing of where the mistake is and says it in
// words.
func oneLine(err error) error {
	var located *file.Error
	if !errors.As(err, &located) {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	}
	message := strings.ReplaceAll(located.Message, "\n", " ")
	if located.Line > 1 {
		return fmt.Errorf("%s, at its line %d, character %d", message, located.Line, located.Column+1)
	}
	return fmt.Errorf("%s, at its character %d", message, located.Column+1)
}

// exprValue returns what an expression sees of a value.
func exprValue(v Value) any {
	switch v.kind {
	case Bool:
		return v.n != 0
	case Int:
		return int(v.n)
	case Decimal:
		digits := TrimDecimal(v.s)
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
			return int(n)
		}
		f, _ := strconv.ParseFloat(digits, 64) // out of range is an infinity
		return f
	case Float:
		return v.Float()
	case Text, JSON:
		return v.s
	case Date, Timestamp, TimestampTZ:
		return v.GoTime()
	case Time:
		return v.Text()
	case Bytes:
		return base64.StdEncoding.EncodeToString([]byte(v.s))
	case List:
		out := make([]any, len(v.list))
		for i, e := range v.list {
			out[i] = exprValue(e)
		}
		return out
	}
	return nil
}

// valueOf turns an expression's result into a value.
func valueOf(result any) (Value, error) {
	switch r := result.(type) {
	case nil:
		return Value{}, nil
	case bool:
		return BoolValue(r), nil
	case int:
		return IntValue(int64(r)), nil
	case float64:
		return FloatValue(r), nil
	case string:
		if !utf8.ValidString(r) {
			return Value{}, errors.New("the expression's result is not valid UTF-8")
		}
		return TextValue(r), nil
	case []byte:
		return BytesValue(r), nil
	case time.Time:
		if y := r.UTC().Year(); y < -9999 || y > 99999 {
			return Value{}, fmt.Errorf("the expression's result is a time in the year %d", y)
		}
		return TimestampTZValue(r.UnixMicro()), nil
	case time.Duration:
		return Value{}, errors.New("the expression's result is a duration, which no field takes")
	case map[string]any:
		doc, err := json.Marshal(r)
		if err != nil {
			return Value{}, errors.New("the expression's result is a map that JSON cannot hold")
		}
		return JSONValue(string(doc)), nil
	}
	v := reflect.ValueOf(result)
	switch v.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return IntValue(v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if u := v.Uint(); u <= math.MaxInt64 {
			return IntValue(int64(u)), nil
		}
		return DecimalValue(strconv.FormatUint(v.Uint(), 10)), nil
	case reflect.Float32:
		return FloatValue(v.Float()), nil
	case reflect.Slice, reflect.Array:
		list := make([]Value, v.Len())
		for i := range list {
			e, err := valueOf(v.Index(i).Interface())
			if err != nil {
				return Value{}, err
			}
			list[i] = e
		}
		return ListValue(list), nil
	}
	return Value{}, fmt.Errorf("the expression's result is a %T, which no field takes", result)
}
