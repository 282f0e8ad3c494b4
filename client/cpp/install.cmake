# What `cmake --install BUILD --component client` puts in a prefix: the C++ client, for find_package(headlight) and the
# target headlight::client. Headers stand as in this tree, below a folder of their own.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/headlight)
set(headers ${CMAKE_INSTALL_INCLUDEDIR}/headlight)

set_target_properties(headlight_client PROPERTIES EXPORT_NAME client)
foreach(target headlight_client headlight_proto headlight_health_proto headlight_rpc_details)
  target_include_directories(${target} SYSTEM INTERFACE $<INSTALL_INTERFACE:${headers}>)
endforeach()
install(TARGETS headlight_client headlight_proto headlight_health_proto headlight_rpc_details headlight_grpc
  EXPORT headlight ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT client)
install(EXPORT headlight NAMESPACE headlight:: FILE targets.cmake DESTINATION ${package} COMPONENT client)

file(GLOB public CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.h)
list(REMOVE_ITEM public ${CMAKE_CURRENT_LIST_DIR}/async_call.h ${CMAKE_CURRENT_LIST_DIR}/retries.h
  ${CMAKE_CURRENT_LIST_DIR}/stream_call.h)
install(FILES ${public} DESTINATION ${headers}/client/cpp COMPONENT client)
install(DIRECTORY ${PROJECT_BINARY_DIR}/proto/headlight ${CMAKE_CURRENT_BINARY_DIR}/grpc DESTINATION ${headers}
  COMPONENT client FILES_MATCHING PATTERN *.pb.h)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/headlight-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/headlight-config.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/headlight-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/headlight-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/headlight-config-version.cmake
  DESTINATION ${package} COMPONENT client)
