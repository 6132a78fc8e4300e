# Flags, dependencies and helpers shared by all folders.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(Python3 3.11 REQUIRED COMPONENTS Interpreter)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(OPENSSL REQUIRED IMPORTED_TARGET openssl)
pkg_check_modules(UUID REQUIRED IMPORTED_TARGET uuid)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd)
pkg_check_modules(GNUTLS REQUIRED IMPORTED_TARGET gnutls)

add_compile_options(
  -Wall -Wextra -Wpedantic -Wno-gnu-statement-expression -Wno-gnu-zero-variadic-macro-arguments
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wwrite-strings
  -Wvla -Wshadow -Wformat=2 -Wno-address-of-packed-member -Wundef -fno-common -fno-strict-aliasing -fstack-protector-strong)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # Statement expressions are used on purpose (TAKE_PTR); gcc has no finer switch for them.
  add_compile_options(-Wno-pedantic)
endif()
add_compile_definitions(_GNU_SOURCE)
if(CORRAL_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
else()
  add_compile_definitions($<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
  add_link_options(-Wl,-z,relro,-z,now)
endif()

if(CORRAL_TESTS)
  pkg_check_modules(CRITERION REQUIRED IMPORTED_TARGET criterion)
endif()

# corral_unit_test(NAME SOURCES... LINK targets...): one Criterion program, one CTest entry.
# Criterion 2.4 passes a test that leaks, so sanitizer text in the output fails the entry.
function(corral_unit_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  if(NOT CORRAL_TESTS)
    return()
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LINK} PkgConfig::CRITERION)
  add_test(NAME ${name} COMMAND ${name} --jobs 2)
  set_tests_properties(${name} PROPERTIES
    TIMEOUT 300
    FAIL_REGULAR_EXPRESSION "AddressSanitizer;LeakSanitizer;runtime error:")
endfunction()
