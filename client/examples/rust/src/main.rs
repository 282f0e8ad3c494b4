//! Sends golden requests to a Headlight server and compares its answers: attend ADDRESS FILE...
use std::{env, error::Error, fs, process::ExitCode, time::Duration};

use headlight::attend_stream_request::Part;
use headlight::attend_stream_response::Part as Answer;
use headlight::attention_service_client::AttentionServiceClient;
use headlight::{attend_request, plan_attention_request, tensor::Data, weight_map::Form};
use headlight::{AttendRequest, AttendResponse, AttendStreamCommit, AttendStreamHeader, AttendStreamRequest};
use headlight::{PlanAttentionRequest, QueryKeyValue, QueryKeyValueSpec, StreamedTensor, Tensor, TensorChunk};
use headlight::{TensorKind, TensorSpec};
use serde::Deserialize;
use tonic::{transport::Channel, Code, Request, Status};
use tonic_types::StatusExt;

type Client = AttentionServiceClient<Channel>;

mod headlight {
    #![allow(clippy::all)]
    tonic::include_proto!("headlight.v1");
    include!(concat!(env!("OUT_DIR"), "/headlight.v1.serde.rs"));
}

const DEADLINE: Duration = Duration::from_secs(10);
const CHUNK_BYTES: usize = 128; // many for a small tensor, to show it; send 1 MiB, the most that is allowed

#[derive(Deserialize)]
struct Golden {
    name: String,
    request: AttendRequest,
    expected: Option<AttendResponse>,
    #[serde(default)]
    tolerance: f32,
    error: Option<Refusal>,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Refusal {
    code: String,
    fields: Vec<String>,
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    match &tensor.data {
        Some(Data::F32Values(floats)) => floats.values.clone(),
        Some(Data::F32Le(bytes)) => bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        // The upper half of a float32.
        Some(Data::Bf16Le(bytes)) => bytes.chunks(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])).collect(),
        _ => Vec::new(),
    }
}

fn tensors(answer: &AttendResponse) -> Vec<&Tensor> {
    let weights = answer.maps.iter().filter_map(|map| match &map.form {
        Some(Form::Weights(tensor)) => Some(tensor),
        _ => None,
    });
    let whole = [&answer.output, &answer.log_sum_exp, &answer.head_outputs];
    whole.into_iter().flatten().chain(weights).collect()
}

fn is_close(got: &Tensor, want: &Tensor, tolerance: f32) -> bool {
    let (a, b) = (numbers(got), numbers(want));
    let close = |(x, y): (&f32, &f32)| x == y || (x - y).abs() <= tolerance;
    got.shape == want.shape && a.len() == b.len() && a.iter().zip(&b).all(close)
}

fn answered(answer: &AttendResponse, golden: &Golden) -> bool {
    let got = tensors(answer);
    let want = golden.expected.as_ref().map(tensors).unwrap_or_default();
    println!("{}: {} tensors, the first of shape {:?}", golden.name, got.len(), got[0].shape);
    got.len() == want.len() && got.iter().zip(&want).all(|(g, w)| is_close(g, w, golden.tolerance))
}

fn refused(status: &Status, golden: &Golden) -> bool {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let code = match status.code() {
        Code::InvalidArgument => "INVALID_ARGUMENT".to_string(),
        other => format!("{other:?}"),
    };
    let fields = violations.into_iter().map(|violation| violation.field).collect();
    let refusal = Some(Refusal { code, fields });
    println!("{}: {refusal:?}", golden.name);
    refusal == golden.error
}

fn bytes(tensor: Option<&Tensor>) -> Option<&[u8]> {
    match &tensor?.data {
        Some(Data::F32Le(bytes)) => Some(bytes),
        _ => None,
    }
}

fn spec(tensor: &Tensor) -> TensorSpec {
    TensorSpec { shape: tensor.shape.clone(), kind: TensorKind::F32 as i32 }
}

/// What a stream takes: the call without its tensors' bytes, those in chunks, a commit.
fn parts(request: &AttendRequest, given: &QueryKeyValue) -> Vec<AttendStreamRequest> {
    let specs = QueryKeyValueSpec {
        query: given.query.as_ref().map(spec),
        key: given.key.as_ref().map(spec),
        value: given.value.as_ref().map(spec),
        part: None,
    };
    let call = PlanAttentionRequest {
        input: Some(plan_attention_request::Input::QueryKeyValue(specs)),
        options: request.options.clone(),
        outputs: request.outputs.clone(),
        ..Default::default()
    };
    let mut parts = vec![Part::Header(AttendStreamHeader { call: Some(call), ..Default::default() })];
    for (name, tensor) in [
        (StreamedTensor::Query, &given.query),
        (StreamedTensor::Key, &given.key),
        (StreamedTensor::Value, &given.value),
    ] {
        let chunks = bytes(tensor.as_ref()).unwrap_or_default().chunks(CHUNK_BYTES).enumerate();
        parts.extend(chunks.map(|(i, data)| {
            let offset = (i * CHUNK_BYTES) as u64;
            Part::Chunk(TensorChunk { tensor: name as i32, offset, data: data.to_vec() })
        }));
    }
    parts.push(Part::Commit(AttendStreamCommit {}));
    parts.into_iter().map(|part| AttendStreamRequest { part: Some(part) }).collect()
}

async fn streamed(client: &mut Client, parts: Vec<AttendStreamRequest>) -> Result<Vec<u8>, Status> {
    let mut request = Request::new(tokio_stream::iter(parts));
    request.set_timeout(DEADLINE);
    let mut answer = client.attend_stream(request).await?.into_inner();
    let mut output = Vec::new();
    while let Some(message) = answer.message().await? {
        match message.part {
            Some(Answer::Acceptance(accepted)) => {
                let shape = accepted.results[0].spec.iter().flat_map(|spec| &spec.shape);
                output = vec![0; 4 * shape.product::<i64>() as usize];
            }
            // Of the output, the one result that was asked for; in any order.
            Some(Answer::Chunk(chunk)) => {
                output[chunk.offset as usize..][..chunk.data.len()].copy_from_slice(&chunk.data);
            }
            _ => {}
        }
    }
    Ok(output)
}

async fn check(client: &mut Client, file: &str) -> Result<bool, Box<dyn Error>> {
    let golden: Golden = serde_json::from_slice(&fs::read(file)?)?;
    let mut request = Request::new(golden.request.clone());
    request.set_timeout(DEADLINE);
    let answer = match client.attend(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Ok(refused(&status, &golden)),
    };
    let mut good = answered(&answer, &golden);
    if let Some(attend_request::Input::QueryKeyValue(given)) = &golden.request.input {
        // The golden whose Q, K and V are bytes.
        if good && bytes(given.query.as_ref()).is_some() {
            let output = match streamed(client, parts(&golden.request, given)).await {
                Ok(output) => output,
                Err(status) => return Ok(refused(&status, &golden)),
            };
            good = bytes(answer.output.as_ref()) == Some(&output);
            println!("{}: streamed, the same bits: {good}", golden.name);
        }
    }
    Ok(good)
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().ok_or("attend ADDRESS FILE...")?;
    let mut client = AttentionServiceClient::connect(format!("http://{address}"))
        .await?
        .max_decoding_message_size(256 << 20); // tonic's own limit is 4 MiB
    let (mut files, mut passed) = (0, 0);
    for file in arguments {
        files += 1;
        passed += usize::from(check(&mut client, &file).await?);
    }
    let good = passed == files && passed > 0;
    println!("golden check {}: {passed} of {files}", if good { "passed" } else { "failed" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
