// A call's messages on one arena: freed at once, and small ones next to each other.
#ifndef HEADLIGHT_SERVER_SERVICE_ARENA_MESSAGES_H_
#define HEADLIGHT_SERVER_SERVICE_ARENA_MESSAGES_H_

#include <google/protobuf/arena.h>
#include <grpcpp/support/message_allocator.h>

namespace headlight {

// Given to gRPC for a method; outlives the server. The bytes of tensors stay strings of their own, so that an answer
// takes them over without a copy. Thread-safe.
template <typename Request, typename Response>
class ArenaMessages final : public grpc::MessageAllocator<Request, Response> {
 public:
  grpc::MessageHolder<Request, Response>* AllocateMessages() override { return new Holder(); }

 private:
  class Holder final : public grpc::MessageHolder<Request, Response> {
   public:
    Holder() {
      this->set_request(google::protobuf::Arena::CreateMessage<Request>(&arena_));
      this->set_response(google::protobuf::Arena::CreateMessage<Response>(&arena_));
    }
    void Release() override { delete this; }

   private:
    google::protobuf::Arena arena_;
  };
};

}  // namespace headlight

#endif  // HEADLIGHT_SERVER_SERVICE_ARENA_MESSAGES_H_
