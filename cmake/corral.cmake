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
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
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
if(CORRAL_TSAN)
  if(CORRAL_SANITIZE)
    message(FATAL_ERROR "CORRAL_TSAN and CORRAL_SANITIZE exclude each other")
  endif()
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(CORRAL_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
else()
  add_compile_definitions($<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
  add_link_options(-Wl,-z,relro,-z,now)
endif()

option(CORRAL_FUZZ "Build the fuzz targets (needs clang); see ./corral fuzz" OFF)
if(CORRAL_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "CORRAL_FUZZ needs clang: cmake -DCMAKE_C_COMPILER=clang")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link) # so that the fuzzer sees where it gets in all code
  file(WRITE ${CMAKE_BINARY_DIR}/fuzz/targets "")
  add_custom_target(fuzz-programs)
endif()

# corral_count_branches(TARGET): with CORRAL_BRANCHES, programs that link the library note which of its branches they take.
function(corral_count_branches target)
  if(CORRAL_BRANCHES)
    target_compile_options(${target} PRIVATE --coverage -fprofile-update=atomic)
    target_link_options(${target} PUBLIC --coverage)
  endif()
endfunction()

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
  add_test(NAME ${name} COMMAND attend $<TARGET_FILE:${name}> --jobs 2)
  set_tests_properties(${name} PROPERTIES
    TIMEOUT 300
    FAIL_REGULAR_EXPRESSION "AddressSanitizer;LeakSanitizer;runtime error:")
endfunction()

# corral_fuzz(PART FOLDER SUBJECTS... LINK targets...): the fuzz targets FOLDER/fuzz_SUBJECT.c, each with the inputs
# that are kept in FOLDER/corpus/SUBJECT. With CORRAL_FUZZ they are programs PART_SUBJECT for ./corral fuzz; otherwise
# each is a test that runs all kept inputs once.
function(corral_fuzz part folder)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  foreach(subject ${arg_UNPARSED_ARGUMENTS})
    set(source ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/fuzz_${subject}.c)
    set(corpus ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/corpus/${subject})
    set(name ${part}_fuzz_${subject})
    if(CORRAL_FUZZ)
      add_executable(${name} EXCLUDE_FROM_ALL ${source})
      target_link_options(${name} PRIVATE -fsanitize=fuzzer)
      target_link_libraries(${name} PRIVATE ${arg_LINK})
      set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
      add_dependencies(fuzz-programs ${name})
      file(APPEND ${CMAKE_BINARY_DIR}/fuzz/targets "${name} ${corpus}\n")
    elseif(CORRAL_TESTS)
      add_executable(${name} ${source} ${CMAKE_SOURCE_DIR}/base/tests/fuzz/replay.c)
      target_link_libraries(${name} PRIVATE ${arg_LINK})
      add_test(NAME ${name} COMMAND ${name} ${corpus})
      set_tests_properties(${name} PROPERTIES TIMEOUT 300 LABELS fuzz)
    endif()
  endforeach()
endfunction()
